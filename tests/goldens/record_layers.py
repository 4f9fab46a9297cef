"""Records what the original `tf.layers` did, for tests/test_layers.py.

    /opt/venvs/tf115/bin/python tests/goldens/record_layers.py
    /opt/venvs/tf215/bin/python tests/goldens/record_layers.py

writes layers_tf115.npz and layers_tf215.npz beside this file. The cases are
here, in Python 3.7, because both the original and the test run them. Each is
a function from `tf` (TF 1's API), `layers` (the original's or ours) and
`inputs` to outputs, in a fresh graph.

TF 1.15 counts operations to seed a random one, TF 2 counts random operations;
so initial values are those of 2.15 only, unless an initializer has its seed.
"""

import inspect
import json
import os

import numpy as np

# Enough of each variable to tell one seed from another.
NUM_INITIAL_VALUES = 6

SHAPES = {
    'vector': [4, 6],
    'sequence': [2, 8, 3],
    'image': [2, 7, 6, 3],
    'image_channels_first': [2, 3, 7, 6],
    'volume': [2, 4, 5, 4, 2],
}


class Inputs:
  """Makes placeholders on demand and keeps what to feed them."""

  def __init__(self, tf):
    self._tf = tf
    self.feed = {}

  def __call__(self, name, static=False, dtype='float32'):
    """Returns a placeholder [batch, ...]; `static` makes the batch known."""
    shape = SHAPES[name]
    values = np.random.RandomState(len(name)).normal(size=shape)
    placeholder = self._tf.placeholder(
        dtype, shape if static else [None] + shape[1:])
    self.feed[placeholder] = values.astype(dtype)
    return placeholder

  def flag(self, value):
    """Returns a boolean scalar that only the run knows."""
    placeholder = self._tf.placeholder(self._tf.bool, [])
    self.feed[placeholder] = value
    return placeholder


# --- dense, dropout, flatten


def dense(tf, layers, inputs):
  return layers.dense(inputs('vector'), 5)


def dense_stacked(tf, layers, inputs):
  x = layers.dense(inputs('vector'), 5, activation=tf.nn.relu)
  x = layers.dense(x, 4, tf.tanh, False)
  bare = layers.dense(x, 4, use_bias=False)
  return [x, bare, layers.dense(x, 3, name='logits')]


def dense_rank_3(tf, layers, inputs):
  x = layers.dense(inputs('sequence'), 5)
  return layers.dense(x, 4)


def dense_rank_3_static(tf, layers, inputs):
  x = layers.dense(inputs('sequence', static=True), 5)
  return layers.dense(x, 4)


def dense_regularized(tf, layers, inputs):
  def penalize(x):
    return 0.1 * tf.reduce_sum(tf.square(x))
  x = layers.dense(inputs('vector'), 5, kernel_regularizer=penalize,
                   bias_regularizer=penalize, activity_regularizer=penalize)
  return layers.dense(x, 3)


def dense_named_functions(tf, layers, inputs):
  return layers.dense(
      inputs('vector'), 5, activation='relu', kernel_initializer='he_normal',
      bias_initializer='ones', kernel_regularizer='l2')


def dense_initializers(tf, layers, inputs):
  x = layers.dense(
      inputs('vector'), 5,
      kernel_initializer=tf.truncated_normal_initializer(stddev=0.02))
  x = layers.dense(x, 5, kernel_initializer=tf.orthogonal_initializer())
  x = layers.dense(x, 5, kernel_initializer=tf.zeros_initializer)
  return layers.dense(
      x, 4, kernel_initializer=tf.variance_scaling_initializer(2.0))


def dense_seeded_initializer(tf, layers, inputs):
  x = layers.dense(inputs('vector'), 5, name='before')
  return layers.dense(
      x, 5, kernel_initializer=tf.glorot_uniform_initializer(seed=3))


def dense_reused_by_name(tf, layers, inputs):
  x = inputs('vector')
  first = layers.dense(x, 6, name='shared', kernel_regularizer=tf.nn.l2_loss)
  return layers.dense(first, 6, name='shared', reuse=True,
                      kernel_regularizer=tf.nn.l2_loss)


def dense_reused_by_scope(tf, layers, inputs):
  x = inputs('vector')
  for _ in range(2):
    with tf.variable_scope('tower', reuse=tf.AUTO_REUSE):
      x = layers.dense(x, 6, name='layer')
      x = layers.dense(x, 6)
  return x


def dense_scopes(tf, layers, inputs):
  x = inputs('vector')
  with tf.variable_scope('outer'):
    x = layers.dense(x, 5)
    with tf.variable_scope('inner', initializer=tf.ones_initializer()):
      x = layers.dense(x, 4)
      x = layers.dense(x, 4)
  with tf.variable_scope('outer'):
    x = layers.dense(x, 3, name='again')
  with tf.name_scope('named'):
    return layers.dense(x, 2)


def dense_scope_regularizer(tf, layers, inputs):
  with tf.variable_scope('scope', regularizer=tf.nn.l2_loss):
    return layers.dense(inputs('vector'), 5, kernel_regularizer=tf.nn.l2_loss)


def dense_partitioned(tf, layers, inputs):
  with tf.variable_scope(
      'scope', partitioner=tf.fixed_size_partitioner(2)):
    return layers.dense(inputs('vector'), 4)


def dense_not_trainable(tf, layers, inputs):
  x = layers.dense(inputs('vector'), 5, trainable=False)
  return layers.dense(x, 3)


def dense_custom_getter(tf, layers, inputs):
  def freeze(getter, *args, **kwargs):
    kwargs['trainable'] = False
    return getter(*args, **kwargs)
  with tf.variable_scope('frozen', custom_getter=freeze):
    layer = layers.Dense(5)
    x = layer(inputs('vector'))
  assert not layer.trainable_weights and len(layer.non_trainable_weights) == 2
  return x


def dense_float64(tf, layers, inputs):
  return layers.dense(inputs('vector', dtype='float64'), 5)


def dense_class_called_twice(tf, layers, inputs):
  layer = layers.Dense(6, name='twice', kernel_regularizer=tf.nn.l2_loss)
  x = layer(inputs('vector'))
  with tf.variable_scope('elsewhere'):
    return layer.apply(x)


def dense_class_default_names(tf, layers, inputs):
  x = inputs('vector')
  first, second = layers.Dense(4), layers.Dense(3)
  with tf.variable_scope('scope'):
    outputs = [first(x), second(x), layers.dense(x, 2)]
  assert [first.name, second.name] == ['dense_1', 'dense_2']
  assert second.scope_name == 'scope/dense_1'
  return outputs


def dense_class_built_by_hand(tf, layers, inputs):
  layer = layers.Dense(5, name='by_hand')
  layer.build((None, 6))
  assert layer.dtype == 'float32'
  return layer(inputs('vector'))


def dense_class_given_scope(tf, layers, inputs):
  with tf.variable_scope('given') as scope:
    pass
  layer = layers.Dense(5, _scope=scope)
  return layer(inputs('vector'))


def dense_name_twice(tf, layers, inputs):
  x = inputs('vector')
  with tf.variable_scope('a'):
    x = layers.dense(x, 4, name='layer')
  with tf.variable_scope('b'):
    return layers.dense(x, 4, name='layer')


def dense_array(tf, layers, inputs):
  return layers.dense(np.ones([2, 3], np.float32), 4)


def dense_sparse(tf, layers, inputs):
  sparse = tf.SparseTensor([[0, 1], [1, 0]], [1., 2.], [2, 3])
  layer = layers.Dense(4, dtype='float32')
  layer.build((2, 3))
  return layer(sparse)


def dense_bfloat16_scope(tf, layers, inputs):
  with tf.tpu.bfloat16_scope():
    x = tf.cast(inputs('vector'), tf.bfloat16)
    x = layers.dense(x, 5)
    x = layers.batch_normalization(x, training=True)
  return tf.cast(x, tf.float32)


def dropout(tf, layers, inputs):
  x = layers.dense(inputs('vector'), 5)
  x = layers.dropout(x, 0.4, training=True, seed=7)
  x = layers.dense(x, 5)
  x = layers.dropout(x, training=False)
  return layers.dense(x, 5)


def dropout_flag(tf, layers, inputs):
  x = layers.dense(inputs('vector'), 5)
  x = layers.dropout(x, 0.4, training=inputs.flag(True), seed=7)
  return layers.dropout(x, 0.4, training=inputs.flag(False), seed=8)


def dropout_noise_shape(tf, layers, inputs):
  return layers.dropout(
      inputs('sequence'), 0.5, noise_shape=[None, 1, None], training=True,
      seed=3)


def dropout_class(tf, layers, inputs):
  layer = layers.Dropout(0.5, seed=5)
  return [layer(inputs('vector'), training=True), layer(inputs('vector'))]


def flatten(tf, layers, inputs):
  x = layers.flatten(inputs('image'))
  y = layers.flatten(inputs('image', static=True))
  z = layers.flatten(inputs('image_channels_first'),
                     data_format='channels_first')
  return [layers.dense(x, 3), y, z, layers.flatten(x[:, 0])]


# --- convolutions


def conv1d(tf, layers, inputs):
  x = layers.conv1d(inputs('sequence'), 4, 3)
  x = layers.conv1d(x, 5, 2, strides=2, padding='same', activation=tf.nn.relu)
  bare = layers.conv1d(x, 2, 1, use_bias=False)
  return [bare, layers.dense(x, 2)]


def conv1d_causal(tf, layers, inputs):
  return layers.conv1d(inputs('sequence'), 4, 3, padding='causal')


def conv1d_dilated(tf, layers, inputs):
  return layers.conv1d(
      inputs('sequence', static=True), 4, 3, padding='causal', dilation_rate=2)


def conv2d(tf, layers, inputs):
  x = layers.conv2d(inputs('image'), 4, 3, padding='same',
                    kernel_regularizer=tf.nn.l2_loss)
  x = layers.conv2d(x, 5, (3, 2), (2, 1), activation=tf.nn.relu)
  x = layers.conv2d(x, 3, 1, use_bias=False, name='bare')
  return [x, layers.conv2d(x, 3, 1)]


def conv2d_dilated(tf, layers, inputs):
  x = layers.conv2d(inputs('image'), 4, 2, dilation_rate=2, padding='same')
  return layers.conv2d(x, 4, 2, dilation_rate=(2, 1))


def conv2d_class(tf, layers, inputs):
  layer = layers.Conv2D(3, 3, padding='SAME')
  return layer(layer(inputs('image')))


def conv3d(tf, layers, inputs):
  x = layers.conv3d(inputs('volume'), 3, 2, padding='same')
  return layers.conv3d(x, 2, (2, 3, 2), strides=(1, 2, 1), use_bias=False)


def conv2d_transpose(tf, layers, inputs):
  x = layers.conv2d_transpose(inputs('image'), 4, 3, strides=2, padding='same')
  x = layers.conv2d_transpose(x, 3, (2, 3), (1, 2), activation=tf.nn.relu)
  return layers.conv2d(x, 2, 1)


def conv2d_transpose_unknown_size(tf, layers, inputs):
  image = tf.placeholder_with_default(inputs('image'), [None, None, None, 3])
  x = layers.conv2d_transpose(image, 4, 3, strides=2)
  return layers.conv2d(x, 2, 1)


def conv2d_transpose_channels_first(tf, layers, inputs):
  return layers.conv2d_transpose(
      inputs('image_channels_first'), 4, 3, data_format='channels_first',
      use_bias=False)


def conv3d_transpose(tf, layers, inputs):
  x = layers.conv3d_transpose(inputs('volume'), 3, 2, strides=2)
  return layers.conv3d_transpose(x, 2, 3, padding='same', use_bias=False)


def separable_conv1d(tf, layers, inputs):
  x = layers.separable_conv1d(inputs('sequence'), 4, 3, depth_multiplier=2)
  return layers.separable_conv1d(x, 3, 2, padding='causal', dilation_rate=2)


def separable_conv2d(tf, layers, inputs):
  x = layers.separable_conv2d(
      inputs('image'), 4, 3, padding='same', depth_multiplier=2,
      depthwise_regularizer=tf.nn.l2_loss, activation=tf.nn.relu)
  x = layers.separable_conv2d(x, 3, 2, strides=2, use_bias=False)
  return [x, layers.dense(x, 2)]


# --- pooling


def pooling1d(tf, layers, inputs):
  x = layers.average_pooling1d(inputs('sequence'), 2, 1)
  return layers.max_pooling1d(x, 3, 2, padding='same')


def pooling1d_channels_first(tf, layers, inputs):
  return layers.max_pooling1d(
      inputs('sequence'), 2, 1, data_format='channels_first')


def pooling2d(tf, layers, inputs):
  x = layers.conv2d(inputs('image'), 4, 1)
  x = layers.average_pooling2d(x, 2, 1, name='pool')
  x = layers.max_pooling2d(x, (2, 3), (1, 2), padding='same', name='pool')
  return layers.dense(layers.flatten(x), 2)


def pooling2d_class(tf, layers, inputs):
  return layers.MaxPooling2D(2, 1)(inputs('image'))


def pooling3d(tf, layers, inputs):
  x = layers.average_pooling3d(inputs('volume'), 2, 1)
  return layers.max_pooling3d(x, 2, 1, padding='same')


def pooling3d_channels_first(tf, layers, inputs):
  return layers.max_pooling3d(
      inputs('volume'), 2, 1, data_format='channels_first')


# --- batch normalization


def batch_norm_fused(tf, layers, inputs):
  x = layers.conv2d(inputs('image'), 4, 3, use_bias=False)
  x = layers.batch_normalization(x, training=True)
  x = layers.conv2d(tf.nn.relu(x), 3, 3)
  x = layers.batch_normalization(x, training=True, momentum=0.9, epsilon=1e-5)
  return layers.dense(layers.flatten(x), 2)


def batch_norm_fused_inference(tf, layers, inputs):
  x = layers.batch_normalization(inputs('image'))
  return layers.conv2d(x, 2, 3)


def batch_norm_fused_flag(tf, layers, inputs):
  x = layers.batch_normalization(inputs('image'), training=inputs.flag(True))
  x = layers.batch_normalization(x, training=inputs.flag(False))
  return layers.conv2d(x, 2, 3)


def batch_norm_fused_bare(tf, layers, inputs):
  x = layers.batch_normalization(
      inputs('image'), center=False, scale=False, training=True, fused=True)
  return layers.conv2d(x, 2, 3)


def batch_norm_half(tf, layers, inputs):
  return layers.batch_normalization(
      inputs('image', dtype='float16'), training=True)


def batch_norm_not_fused(tf, layers, inputs):
  x = layers.batch_normalization(inputs('image'), training=True, fused=False)
  return layers.conv2d(x, 2, 3)


def batch_norm_channels_first(tf, layers, inputs):
  return layers.batch_normalization(
      inputs('image_channels_first'), axis=1, training=True, fused=False)


def batch_norm_vector(tf, layers, inputs):
  x = layers.dense(inputs('vector'), 5)
  x = layers.batch_normalization(x, training=True)
  x = layers.dense(x, 5)
  x = layers.batch_normalization(x, training=False)
  x = layers.batch_normalization(x, training=True, center=False)
  return layers.dense(x, 5)


def batch_norm_vector_flag(tf, layers, inputs):
  x = layers.batch_normalization(inputs('vector'), training=inputs.flag(True))
  x = layers.batch_normalization(x, training=inputs.flag(False))
  return layers.dense(x, 2)


def batch_norm_constant_flag(tf, layers, inputs):
  training = tf.logical_not(tf.constant(False))
  x = layers.batch_normalization(inputs('vector'), training=training)
  return layers.dense(x, 2)


def batch_norm_frozen(tf, layers, inputs):
  return layers.batch_normalization(
      inputs('vector'), training=True, trainable=False, name='frozen')


def batch_norm_reused(tf, layers, inputs):
  x = inputs('vector')
  x = layers.batch_normalization(x, training=True, name='bn')
  return layers.batch_normalization(x, training=True, name='bn', reuse=True)


def batch_norm_class_called_twice(tf, layers, inputs):
  layer = layers.BatchNormalization(gamma_regularizer=tf.nn.l2_loss)
  x = layer(inputs('vector'), training=True)
  x = layer(x, training=True)
  assert len(layer.updates) == 4 and len(layer.trainable_variables) == 2
  return layer(x)


def batch_norm_axes(tf, layers, inputs):
  x = layers.batch_normalization(inputs('image'), axis=[1, 3], training=True)
  return layers.conv2d(x, 2, 3)


def batch_norm_partitioned(tf, layers, inputs):
  with tf.variable_scope('scope', partitioner=tf.fixed_size_partitioner(2)):
    return layers.batch_normalization(inputs('vector'), training=True)


def batch_norm_renorm(tf, layers, inputs):
  x = layers.batch_normalization(
      inputs('vector'), training=True, renorm=True,
      renorm_clipping={'rmax': 3., 'rmin': 0.3, 'dmax': 1.})
  return layers.dense(x, 3)


def batch_norm_renorm_flag(tf, layers, inputs):
  return layers.batch_normalization(
      inputs('image'), training=inputs.flag(True), renorm=True)


def batch_norm_virtual(tf, layers, inputs):
  x = layers.batch_normalization(
      inputs('vector', static=True), training=True, virtual_batch_size=2)
  return layers.dense(x, 3)


def batch_norm_adjusted(tf, layers, inputs):
  def adjust(shape):
    return 1.5 * tf.ones(shape[-1:]), 0.5 * tf.ones(shape[-1:])
  x = layers.batch_normalization(
      inputs('vector'), training=True, adjustment=adjust)
  return layers.dense(x, 3)


# --- layers of the user's


def custom_layer(tf, layers, inputs):
  class ScaleAndShift(layers.Layer):

    def build(self, input_shape):
      size = int(input_shape[-1])
      self.factor = self.add_weight('factor', [size])
      self.shift = self.add_variable(
          'shift', [size], initializer=tf.ones_initializer(), trainable=False)
      self.count = self.add_weight('count', [], dtype=tf.int32)
      super(ScaleAndShift, self).build(input_shape)

    def call(self, inputs, training=False):
      if training:
        self.add_loss(tf.reduce_sum(inputs))
        self.add_update(tf.assign_add(self.count, 1))
      return inputs * self.factor + self.shift

  layer = ScaleAndShift()
  x = layer(inputs('vector'), training=True)
  assert layer.name == 'scale_and_shift_1', layer.name
  assert len(layer.losses) == len(layer.updates) == 1
  return ScaleAndShift(name='named')(x)


def nested_layers_pass_training(tf, layers, inputs):
  class Block(layers.Layer):

    def __init__(self):
      super(Block, self).__init__(name='block')
      self.norm = layers.BatchNormalization()
      self.hidden = layers.Dense(4)

    def call(self, inputs, training=None):
      return self.norm(self.hidden(inputs))

  return Block()(inputs('vector'), training=True)


def cell(tf, layers, inputs):
  class Cell(layers.Layer):

    def call(self, inputs, state, scope=None):
      weight = tf.get_variable('weight', [6, 6])
      return tf.matmul(inputs, weight) + state

  layer = Cell(name='cell')
  x = inputs('vector')
  state = layer(x, tf.zeros_like(x))
  return layer(x, state)


def custom_layer_of_many_inputs(tf, layers, inputs):
  class Add(layers.Layer):

    def build(self, input_shapes):
      left, right = input_shapes
      assert left.as_list() == right.as_list() == [None, 6]
      self.scale = self.add_weight(
          'scale', (), constraint=tf.nn.relu, regularizer=tf.nn.l2_loss)

    def call(self, inputs):
      left, right = inputs
      return {'sum': left + self.scale * right}

  layer = Add(dtype=tf.float32, trainable=True)
  output = layer([inputs('vector'), inputs('vector')])
  assert layer.scale.constraint is tf.nn.relu
  assert layer.count_params() == 1
  return output['sum']


def masks_pass_on(tf, layers, inputs):
  class Mask(layers.Layer):

    def compute_mask(self, inputs, mask=None):
      return tf.greater(inputs[:, :, 0], 0.)

  class Mean(layers.Layer):

    def call(self, inputs, mask=None):
      assert mask is not None
      mask = tf.cast(mask, inputs.dtype)
      return tf.reduce_sum(inputs * mask[:, :, None], axis=1)

  x = Mask()(inputs('sequence'))
  x = layers.Dense(4)(x)
  return Mean()(layers.Dropout()(x))


def updates_and_losses_by_input(tf, layers, inputs):
  layer = layers.BatchNormalization(gamma_regularizer=tf.nn.l2_loss)
  x, y = inputs('vector'), inputs('vector')
  outputs = [layer(x, training=True), layer(y, training=True)]
  assert len(layer.get_updates_for(x)) == len(layer.get_updates_for(y)) == 2
  assert not layer.get_updates_for(None)
  assert len(layer.get_losses_for(None)) == 1 and not layer.get_losses_for(x)
  return outputs


CASES = [
    dense, dense_stacked, dense_rank_3, dense_rank_3_static,
    dense_regularized, dense_named_functions, dense_initializers, dense_seeded_initializer,
    dense_reused_by_name, dense_reused_by_scope, dense_scopes,
    dense_scope_regularizer, dense_partitioned, dense_not_trainable,
    dense_custom_getter, dense_float64, dense_class_called_twice,
    dense_class_default_names, dense_class_built_by_hand,
    dense_class_given_scope, dense_name_twice, dense_array, dense_sparse,
    dense_bfloat16_scope, dropout, dropout_flag, dropout_noise_shape, dropout_class, flatten,
    conv1d, conv1d_causal, conv1d_dilated, conv2d, conv2d_dilated,
    conv2d_class, conv3d, conv2d_transpose, conv2d_transpose_unknown_size,
    conv2d_transpose_channels_first, conv3d_transpose, separable_conv1d,
    separable_conv2d, pooling1d, pooling1d_channels_first, pooling2d,
    pooling2d_class, pooling3d, pooling3d_channels_first, batch_norm_fused,
    batch_norm_fused_inference, batch_norm_fused_flag, batch_norm_fused_bare,
    batch_norm_half, batch_norm_not_fused, batch_norm_channels_first,
    batch_norm_vector, batch_norm_vector_flag, batch_norm_constant_flag,
    batch_norm_frozen, batch_norm_reused, batch_norm_class_called_twice,
    batch_norm_axes, batch_norm_partitioned, batch_norm_renorm,
    batch_norm_renorm_flag, batch_norm_virtual, batch_norm_adjusted,
    custom_layer, custom_layer_of_many_inputs, masks_pass_on,
    updates_and_losses_by_input, nested_layers_pass_training, cell,
]


# --- running a case


def run_case(case, tf, layers):
  """Builds a case in a fresh graph of seed 5, and runs it.

  Args:
    case: one of `CASES`.
    tf: TF 1's API.
    layers: the module to test.

  Returns:
    (description, arrays): a dict of what JSON can hold, and a dict of arrays:
    'initial/<variable>', and, from values that don't depend on seeds,
    'output/<i>', 'loss/<i>' and, after the updates, 'final/<variable>'.
  """
  with tf.Graph().as_default() as graph:
    tf.set_random_seed(5)
    inputs = Inputs(tf)
    outputs = case(tf, layers, inputs)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return (describe(tf, outputs),
            run(tf, graph, outputs, inputs.feed))


def describe(tf, outputs):
  """Returns what is known of a graph before it runs."""
  trainable = {id(v) for v in tf.trainable_variables()}
  return {
      'variables': [
          [v.op.name, v.shape.as_list(), v.dtype.base_dtype.name,
           id(v) in trainable] for v in tf.global_variables()],
      'outputs': [
          [o.op.name, o.shape.as_list(), o.dtype.name] for o in outputs],
      'num_updates': len(tf.get_collection(tf.GraphKeys.UPDATE_OPS)),
      'num_losses': len(
          tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)),
  }


def run(tf, graph, outputs, feed):
  """Returns the arrays of a graph; see `run_case`."""
  variables = tf.global_variables()
  losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
  updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  initialize = tf.global_variables_initializer()
  fixed = [_fix_values(i, v) for i, v in enumerate(variables)]
  with tf.Session(graph=graph) as session:
    session.run(initialize)
    initial = session.run(variables)
    for variable, value in zip(variables, fixed):
      variable.load(value, session)
    output_values, loss_values = session.run([outputs, losses], feed)
    for update in updates:  # In turn, since two may move one variable.
      session.run(update, feed)
    final = session.run(variables)
  arrays = {}
  for variable, first, last in zip(variables, initial, final):
    arrays['initial/' + variable.op.name] = first.ravel()[:NUM_INITIAL_VALUES]
    if updates:
      arrays['final/' + variable.op.name] = last
  arrays.update(('output/%d' % i, v) for i, v in enumerate(output_values))
  arrays.update(('loss/%d' % i, v) for i, v in enumerate(loss_values))
  return arrays


def _fix_values(seed, variable):
  dtype = variable.dtype.base_dtype.as_numpy_dtype
  values = np.random.RandomState(seed).uniform(
      0.1, 1., variable.shape.as_list())
  return values.astype(dtype)


def describe_signatures(layers):
  """Returns name to [[parameter, default]], of each class and function."""
  signatures = {}
  for name in dir(layers):
    value = getattr(layers, name)
    if name.startswith('_') or not callable(value):
      continue
    call = value.__init__ if inspect.isclass(value) else value
    signatures[name] = [
        [parameter.name, _describe_default(parameter.default)]
        for parameter in inspect.signature(call).parameters.values()]
  return signatures


def _describe_default(default):
  if isinstance(default, tuple) and len(set(default)) == 1:
    return default[0]  # (1, 1) says what 1 says.
  is_plain = default is None or isinstance(default, (bool, int, float, str))
  return default if is_plain else getattr(
      default, '__name__', type(default).__name__)


# --- files


def save(path, descriptions, arrays):
  """Writes all arrays as one: a file of many small ones is mostly headers."""
  index = [[key, list(value.shape)] for key, value in arrays.items()]
  values = np.concatenate(
      [np.ravel(value).astype(np.float32) for value in arrays.values()])
  np.savez_compressed(
      path, values=values,
      text=json.dumps({'descriptions': descriptions, 'index': index}))


def load(path):
  """Returns (descriptions, arrays) of a file that `save` wrote."""
  with np.load(path) as file:
    values, text = file['values'], json.loads(str(file['text']))
  arrays, start = {}, 0
  for key, shape in text['index']:
    size = int(np.prod(shape))
    arrays[key] = values[start:start + size].reshape(shape)
    start += size
  return text['descriptions'], arrays


def main():
  import tensorflow  # pylint: disable=import-outside-toplevel
  tf = tensorflow.compat.v1
  tf.disable_v2_behavior()
  descriptions, arrays = {'signatures': describe_signatures(tf.layers)}, {}
  for case in CASES:
    description, case_arrays = run_case(case, tf, tf.layers)
    descriptions[case.__name__] = description
    arrays.update((case.__name__ + '/' + key, value)
                  for key, value in case_arrays.items())
  version = 'tf' + ''.join(tensorflow.__version__.split('.')[:2])
  path = os.path.join(
      os.path.dirname(os.path.abspath(__file__)), 'layers_%s.npz' % version)
  save(path, descriptions, arrays)
  print(path, os.path.getsize(path), 'bytes')


if __name__ == '__main__':
  main()
