"""`dense`, `dropout` and `flatten`, with their classes."""

from __future__ import annotations

import numbers

import numpy as np
import tensorflow.compat.v1 as tf

from tpuest.compat.layers import base, window
from tpuest.compat.layers.condition import choose
from tpuest.compat.layers.function import make_function
from tpuest.compat.layers.input_spec import InputSpec
from tpuest.compat.layers.named import (
    find_activation,
    find_constraint,
    find_initializer,
    find_regularizer,
)


class Dense(base.Layer):
    """`activation(inputs @ kernel + bias)`.

    Variables: `kernel` [input_size, units], `bias` [units].

    Args:
      units: size of the output's last axis.
      activation: callable, Keras name, or `None` for none.
      use_bias: whether to add a bias.
      kernel_initializer: `None` means the variable scope's, then Glorot uniform.
      bias_initializer: initializer of the bias.
      kernel_regularizer: callable from the kernel to a scalar loss.
      bias_regularizer: callable from the bias to a scalar loss.
      activity_regularizer: callable from the outputs to a scalar loss.
      kernel_constraint: callable applied to the kernel after each update.
      bias_constraint: callable applied to the bias after each update.
      trainable: whether the variables go to TRAINABLE_VARIABLES.
      name: name of the layer.
      **kwargs: see `Layer`.
    """

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        kernel_initializer=None,
        bias_initializer=tf.zeros_initializer(),
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        trainable=True,
        name=None,
        **kwargs,
    ):
        super().__init__(
            trainable=trainable, name=name, activity_regularizer=activity_regularizer, **kwargs
        )
        self.units = int(units)
        self.activation = find_activation(activation)
        self.use_bias = use_bias
        self.kernel_initializer = find_initializer(kernel_initializer)
        self.bias_initializer = find_initializer(bias_initializer)
        self.kernel_regularizer = find_regularizer(kernel_regularizer)
        self.bias_regularizer = find_regularizer(bias_regularizer)
        self.kernel_constraint = find_constraint(kernel_constraint)
        self.bias_constraint = find_constraint(bias_constraint)
        self.supports_masking = True
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape):
        """Makes the kernel and the bias for inputs [..., input_size]."""
        input_size = self._read_input_size(input_shape)
        self.kernel = self.add_weight(
            "kernel",
            [input_size, self.units],
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                "bias",
                [self.units],
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.built = True

    def _read_input_size(self, input_shape):
        dtype = tf.as_dtype(self.dtype or tf.float32)
        if not (dtype.is_floating or dtype.is_complex):
            raise TypeError(
                "Unable to build `Dense` layer with non-floating point "
                f"dtype {dtype.name}. Cast the inputs first."
            )
        input_size = tf.TensorShape(input_shape).as_list()[-1]
        if input_size is None:
            raise ValueError(
                "The last dimension of the inputs to `Dense` should be defined. Found `None`."
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_size})
        return input_size

    def call(self, inputs):
        """Multiplies inputs [..., input_size] into outputs [..., units]."""
        outputs = self._multiply(tf.cast(inputs, self.dtype))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs) if self.activation else outputs

    def _multiply(self, inputs):
        if isinstance(inputs, tf.SparseTensor):
            return tf.sparse.sparse_dense_matmul(inputs, self.kernel)
        rank = inputs.shape.rank
        if rank <= 2:
            return tf.matmul(inputs, self.kernel)
        outputs = tf.tensordot(inputs, self.kernel, [[rank - 1], [0]])
        outputs.set_shape(self.compute_output_shape(inputs.shape))
        return outputs

    def compute_output_shape(self, input_shape):
        """Returns [..., units] for [..., input_size]."""
        return tf.TensorShape(input_shape)[:-1].concatenate(self.units)


class Dropout(base.Layer):
    """Zeroes a share of the inputs while training, and scales up the others.

    Args:
      rate: the share to drop, in [0, 1); a number or a scalar tensor.
      noise_shape: sizes of the mask; `None` for an axis is the inputs' size, 1
        drops along the whole axis.
      seed: int, the op seed.
      name: name of the layer.
      **kwargs: see `Layer`.
    """

    def __init__(self, rate=0.5, noise_shape=None, seed=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.rate = rate
        self.noise_shape = noise_shape
        self.seed = seed
        self.supports_masking = True

    def call(self, inputs, training=False):
        """Drops if `training`, a bool or a boolean scalar tensor."""
        training = False if training is None else training
        return choose(training, lambda: self._drop(inputs), lambda: tf.identity(inputs))

    def _drop(self, inputs):
        if isinstance(self.rate, numbers.Real) and self.rate == 0:
            return tf.identity(inputs)
        return tf.nn.dropout(
            inputs, rate=self.rate, seed=self.seed, noise_shape=self._get_noise_shape(inputs)
        )

    def _get_noise_shape(self, inputs):
        # Spatial dropouts of users override this.
        if self.noise_shape is None or tf.is_tensor(self.noise_shape):
            return self.noise_shape
        sizes = tf.shape(inputs)
        return tf.convert_to_tensor(
            [sizes[axis] if size is None else size for axis, size in enumerate(self.noise_shape)]
        )

    def compute_output_shape(self, input_shape):
        """Returns the inputs' shape."""
        return tf.TensorShape(input_shape)


class Flatten(base.Layer):
    """Reshapes [batch, ...] to [batch, size of the rest].

    Args:
      data_format: 'channels_last' (`None` means it too) or 'channels_first':
        the latter puts the channels last before flattening.
      **kwargs: see `Layer`.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = window.check_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs):
        """Flattens inputs [batch, ...] to [batch, size]."""
        rank = inputs.shape.rank
        if self.data_format == "channels_first" and rank > 1:
            inputs = tf.transpose(inputs, [0, *range(2, rank), 1])
        size = self.compute_output_shape(inputs.shape).as_list()[1]
        if size is not None:
            return tf.reshape(inputs, [-1, size])
        return tf.reshape(inputs, [window.list_sizes(inputs)[0], -1])

    def compute_output_shape(self, input_shape):
        """Returns [batch, size], with `None` for what isn't known."""
        batch_size, *sizes = tf.TensorShape(input_shape).as_list()
        size = None if None in sizes else int(np.prod(sizes))
        return tf.TensorShape([batch_size, size])


dense = make_function("dense", Dense)


def dropout(inputs, rate=0.5, noise_shape=None, seed=None, training=False, name=None):
    """Applies `Dropout` to a tensor of any shape; see the class."""
    layer = Dropout(rate, noise_shape=noise_shape, seed=seed, name=name)
    return layer.apply(inputs, training=training)


def flatten(inputs, name=None, data_format="channels_last"):
    """Reshapes [batch, ...] to [batch, size of the rest]; see `Flatten`."""
    return Flatten(data_format=data_format, name=name).apply(inputs)


# Names of tensorflow/python/layers/core.py, which programs import too.
FullyConnected = Dense
fully_connected = dense
