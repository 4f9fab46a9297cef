"""`batch_normalization`: by the batch while training, by its averages else.

    training:  mean, variance of the batch; UPDATE_OPS move the averages
    else:      mean, variance are the averages
    outputs = (inputs - mean) / sqrt(variance + epsilon) * gamma + beta

Rules are those of TF 1.15's `BatchNormalization` as `tf.layers` used it.
"""

from __future__ import annotations

import contextlib

import tensorflow.compat.v1 as tf

from tpuest.compat.layers import base
from tpuest.compat.layers.averages import LIMITS, Renormalization, move_average
from tpuest.compat.layers.condition import choose, find_value
from tpuest.compat.layers.input_spec import InputSpec
from tpuest.compat.layers.named import (
    find_constraint,
    find_initializer,
    find_regularizer,
)


class BatchNormalization(base.Layer):
    """Shifts and scales its inputs to mean `beta` and deviation `gamma`.

    Variables, all [size of the axis]: `gamma`, `beta`, and, not trained,
    `moving_mean`, `moving_variance`; with `renorm` also `moving_stddev`,
    `renorm_mean`, `renorm_stddev`. float32 for float16 and bfloat16 inputs.

    Args:
      axis: int or list of int, the axes that keep statistics of their own.
      momentum: share of a moving average that a step keeps.
      epsilon: added to the variance.
      center: whether there is a `beta`.
      scale: whether there is a `gamma`.
      beta_initializer: initializer of `beta`.
      gamma_initializer: initializer of `gamma`.
      moving_mean_initializer: initializer of `moving_mean`.
      moving_variance_initializer: initializer of `moving_variance`.
      beta_regularizer: callable from `beta` to a scalar loss.
      gamma_regularizer: callable from `gamma` to a scalar loss.
      beta_constraint: callable applied to `beta` after each update.
      gamma_constraint: callable applied to `gamma` after each update.
      renorm: whether to use batch renormalization (arxiv.org/abs/1702.03275).
      renorm_clipping: dict that may have 'rmax', 'rmin' and 'dmax', scalars.
      renorm_momentum: `momentum` of the averages `renorm` corrects by.
      fused: `None` or `True` use the fused kernel where there is one (rank 4,
        axis 1 or 3, no `renorm`, `virtual_batch_size` or `adjustment`).
      trainable: whether the variables go to TRAINABLE_VARIABLES, and the
        updates to UPDATE_OPS.
      virtual_batch_size: int, size of the sub-batches with statistics of their
        own; must divide the batch size.
      adjustment: callable from the inputs' shape, an int32 vector, to a scale
        and a shift for the normalized values while training.
      name: name of the layer.
      **kwargs: see `Layer`.

    Raises:
      TypeError: `axis` is neither an int nor a list.
      ValueError: unknown keys in `renorm_clipping`.
    """

    def __init__(
        self,
        axis=-1,
        momentum=0.99,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer=tf.zeros_initializer(),
        gamma_initializer=tf.ones_initializer(),
        moving_mean_initializer=tf.zeros_initializer(),
        moving_variance_initializer=tf.ones_initializer(),
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        renorm=False,
        renorm_clipping=None,
        renorm_momentum=0.99,
        fused=None,
        trainable=True,
        virtual_batch_size=None,
        adjustment=None,
        name=None,
        **kwargs,
    ):
        super().__init__(trainable=trainable, name=name, **kwargs)
        if not isinstance(axis, (int, list)):
            raise TypeError(f"axis must be int or list, type given: {type(axis)}")
        self.axis = list(axis) if isinstance(axis, list) else axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.beta_initializer = find_initializer(beta_initializer)
        self.gamma_initializer = find_initializer(gamma_initializer)
        self.moving_mean_initializer = find_initializer(moving_mean_initializer)
        self.moving_variance_initializer = find_initializer(moving_variance_initializer)
        self.beta_regularizer = find_regularizer(beta_regularizer)
        self.gamma_regularizer = find_regularizer(gamma_regularizer)
        self.beta_constraint = find_constraint(beta_constraint)
        self.gamma_constraint = find_constraint(gamma_constraint)
        self.fused = fused
        self.virtual_batch_size = virtual_batch_size
        self.adjustment = adjustment
        self.supports_masking = True
        self._set_renorm(renorm, renorm_clipping or {}, renorm_momentum)

    def _set_renorm(self, renorm, clipping, momentum):
        self.renorm = renorm
        self.renorm_clipping = clipping
        self.renorm_momentum = momentum
        if renorm and set(clipping) - LIMITS:
            raise ValueError(f"renorm_clipping {clipping} contains keys not in {sorted(LIMITS)}")

    # --- variables

    def build(self, input_shape):
        """Makes the variables for inputs of any shape with known `axis` sizes."""
        sizes = tf.TensorShape(input_shape)
        if not sizes.rank:
            raise ValueError(f"Input has undefined rank: {input_shape}")
        sizes = sizes.as_list()
        self.axis = _resolve_axes(self.axis, len(sizes))
        self._check_virtual_batch()
        self.fused = self.fused in (None, True) and self._can_fuse(len(sizes))
        axis_sizes = {axis: sizes[axis] for axis in self.axis}
        if None in axis_sizes.values():
            raise ValueError(f"Input has undefined `axis` dimension. Input shape: {input_shape}")
        self.input_spec = InputSpec(ndim=len(sizes), axes=axis_sizes)
        self._param_shape = self._shape_parameters(axis_sizes, len(sizes))
        self._add_parameters()
        with self._whole_variables():
            self._add_averages()
        self.built = True

    def _check_virtual_batch(self):
        if self.virtual_batch_size is None:
            return
        if self.virtual_batch_size <= 0:
            raise ValueError(
                "virtual_batch_size must be a positive integer that "
                "divides the true batch size of the input Tensor"
            )
        if 0 in self.axis:
            raise ValueError(
                "When using virtual_batch_size, the batch dimension "
                "must be 0 and thus axis cannot include 0"
            )
        if self.adjustment is not None:
            raise ValueError("When using virtual_batch_size, adjustment cannot be specified")

    def _can_fuse(self, rank):
        plain = not self.renorm and self.virtual_batch_size is None
        return plain and self.adjustment is None and rank == 4 and self.axis in ([1], [3])

    def _shape_parameters(self, axis_sizes, rank):
        if len(axis_sizes) == 1 and self.virtual_batch_size is None:
            return list(axis_sizes.values())
        shape = [axis_sizes.get(axis, 1) for axis in range(rank)]
        if self.virtual_batch_size is not None:
            # The reshaped inputs have an axis of sub-batches at 1.
            shape.insert(1, 1)
            self.axis = [axis + 1 for axis in self.axis]
        return shape

    @property
    def _param_dtype(self):
        dtype = tf.as_dtype(self.dtype or tf.float32)
        return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype

    def _add_parameters(self):
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                "gamma",
                self._param_shape,
                dtype=self._param_dtype,
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )
        if self.center:
            self.beta = self.add_weight(
                "beta",
                self._param_shape,
                dtype=self._param_dtype,
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
            )

    def _add_averages(self):
        self.moving_mean = self._add_average("moving_mean", self.moving_mean_initializer)
        self.moving_variance = self._add_average(
            "moving_variance", self.moving_variance_initializer
        )
        if self.renorm:
            self.moving_stddev = self._add_average("moving_stddev", self._initialize_stddev)
            self.renorm_mean = self._add_average("renorm_mean", self.moving_mean_initializer)
            self.renorm_stddev = self._add_average("renorm_stddev", self._initialize_stddev)
            self._renormalization = Renormalization(
                self.renorm_mean,
                self.renorm_stddev,
                self.epsilon,
                self.renorm_momentum,
                self.renorm_clipping,
            )

    def _initialize_stddev(self, *args, **kwargs):
        return tf.sqrt(self.moving_variance_initializer(*args, **kwargs))

    def _add_average(self, name, initializer):
        return self.add_weight(
            name,
            self._param_shape,
            dtype=self._param_dtype,
            initializer=initializer,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
        )

    @contextlib.contextmanager
    def _whole_variables(self):
        """Makes variables unpartitioned: the fused kernel updates them whole."""
        partitioner = self._scope.partitioner if self._scope else None
        if partitioner is None:
            yield
            return
        self._scope.set_partitioner(None)
        try:
            yield
        finally:
            self._scope.set_partitioner(partitioner)

    # --- outputs

    def call(self, inputs, training=False):
        """Normalizes inputs of any shape.

        Args:
          inputs: tensor of a floating dtype.
          training: a bool or a boolean scalar tensor.

        Returns:
          A tensor of the shape and dtype of `inputs`.
        """
        training = False if training is None else training
        if self.fused:
            return self._normalize_fused(inputs, training)
        if self.virtual_batch_size is None:
            return self._normalize(inputs, training)
        sizes = [-1, *inputs.shape.as_list()[1:]]
        inputs = tf.reshape(inputs, [self.virtual_batch_size, -1, *sizes[1:]])
        return tf.reshape(self._normalize(inputs, training), sizes)

    def _normalize_fused(self, inputs, training):
        constants = {"dtype": self._param_dtype, "shape": self._param_shape}
        beta = self.beta if self.center else tf.constant(0.0, **constants)
        gamma = self.gamma if self.scale else tf.constant(1.0, **constants)
        data_format = "NCHW" if self.axis == [1] else "NHWC"

        def normalize_by_batch():
            return tf.nn.fused_batch_norm(
                inputs, gamma, beta, epsilon=self.epsilon, data_format=data_format
            )

        def normalize_by_averages():
            return tf.nn.fused_batch_norm(
                inputs,
                gamma,
                beta,
                self.moving_mean,
                self.moving_variance,
                self.epsilon,
                data_format,
                is_training=False,
            )

        outputs, mean, variance = choose(training, normalize_by_batch, normalize_by_averages)
        if find_value(training) is not False:
            self._update_fused(mean, variance, training)
        return outputs

    def _update_fused(self, mean, variance, training):
        if find_value(training) is None:
            # Momentum 1 leaves the averages as they are.
            momentum = choose(training, lambda: self.momentum, lambda: 1.0)
        else:
            momentum = tf.convert_to_tensor(self.momentum)
        self.add_update(lambda: move_average(self.moving_mean, mean, momentum))
        self.add_update(lambda: move_average(self.moving_variance, variance, momentum))

    def _normalize(self, inputs, training):
        scale = self._broadcast(self.gamma, inputs)
        offset = self._broadcast(self.beta, inputs)
        if find_value(training) is False:
            mean, variance = self.moving_mean, self.moving_variance
        else:
            mean, variance, scale, offset = self._take_batch(inputs, training, scale, offset)
        mean, variance, offset, scale = (
            None if value is None else tf.cast(value, inputs.dtype)
            for value in (mean, variance, offset, scale)
        )
        outputs = tf.nn.batch_normalization(
            inputs,
            self._broadcast(mean, inputs),
            self._broadcast(variance, inputs),
            offset,
            scale,
            self.epsilon,
        )
        outputs.set_shape(inputs.shape)
        return outputs

    def _take_batch(self, inputs, training, scale, offset):
        """Returns mean, variance, scale and offset of a batch, and updates."""
        if self.adjustment:
            adjustment = self._adjust(inputs, training)
            scale, offset = _compose(*adjustment, scale, offset)
        keep_axes = self.virtual_batch_size is not None or len(self.axis) > 1
        mean, variance = self._moments(
            tf.cast(inputs, self._param_dtype), self._list_reduced(inputs), keep_dims=keep_axes
        )
        mean = choose(training, lambda: mean, lambda: tf.convert_to_tensor(self.moving_mean))
        variance = choose(
            training, lambda: variance, lambda: tf.convert_to_tensor(self.moving_variance)
        )
        new_mean, new_variance = mean, variance
        if self.virtual_batch_size is not None:
            # One move by the sub-batches' mean instead of a move for each.
            new_mean = tf.reduce_mean(mean, axis=1, keepdims=True)
            new_variance = tf.reduce_mean(variance, axis=1, keepdims=True)
        if self.renorm:
            ratio, shift, new_mean, new_variance = self._renormalization.correct(
                new_mean, new_variance, training
            )
            ratio = tf.stop_gradient(ratio, name="renorm_r")
            shift = tf.stop_gradient(shift, name="renorm_d")
            scale, offset = _compose(
                self._broadcast(ratio, inputs), self._broadcast(shift, inputs), scale, offset
            )
        self._update(new_mean, new_variance, training)
        return mean, variance, scale, offset

    def _moments(self, inputs, reduction_axes, keep_dims, mask=None):
        """Gives the batch's mean and variance; programs override it to take them over several cores."""
        return self._calculate_mean_and_var(inputs, reduction_axes, keep_dims)

    def _calculate_mean_and_var(self, x, axes, keep_dims):
        """Does the same, by the other name that programs override."""
        return tf.nn.moments(x, axes, keepdims=keep_dims)

    def _adjust(self, inputs, training):
        scale, shift = self.adjustment(tf.shape(inputs))
        return (
            choose(training, lambda: scale, lambda: tf.ones_like(scale)),
            choose(training, lambda: shift, lambda: tf.zeros_like(shift)),
        )

    def _list_reduced(self, inputs):
        reduced = [a for a in range(inputs.shape.rank) if a not in self.axis]
        if self.virtual_batch_size is not None:
            del reduced[1]  # The axis of sub-batches.
        return reduced

    def _broadcast(self, value, inputs):
        rank = inputs.shape.rank
        is_last_axis = self._list_reduced(inputs) == list(range(rank - 1))
        if value is None or value.shape.rank == rank or is_last_axis:
            return value
        shape = [1] * rank
        shape[self.axis[0]] = inputs.shape.as_list()[self.axis[0]]
        return tf.reshape(value, shape)

    # --- updates

    def _update(self, mean, variance, training):
        self.add_update(
            lambda: choose(
                training,
                lambda: move_average(self.moving_mean, mean, self.momentum),
                lambda: self.moving_mean,
            )
        )
        move_variance = (
            self._move_variance_by_stddev
            if self.renorm
            else lambda value: move_average(self.moving_variance, value, self.momentum)
        )
        self.add_update(
            lambda: choose(training, lambda: move_variance(variance), lambda: self.moving_variance)
        )

    def _move_variance_by_stddev(self, variance):
        stddev = move_average(self.moving_stddev, tf.sqrt(variance + self.epsilon), self.momentum)
        # Rounding may take the difference below zero.
        variance = tf.nn.relu(stddev * stddev - self.epsilon)
        with tf.name_scope("AssignNewValue") as scope:
            return tf.assign(self.moving_variance, variance, name=scope)

    def compute_output_shape(self, input_shape):
        """Returns the inputs' shape."""
        return tf.TensorShape(input_shape)


def batch_normalization(
    inputs,
    axis=-1,
    momentum=0.99,
    epsilon=1e-3,
    center=True,
    scale=True,
    beta_initializer=tf.zeros_initializer(),
    gamma_initializer=tf.ones_initializer(),
    moving_mean_initializer=tf.zeros_initializer(),
    moving_variance_initializer=tf.ones_initializer(),
    beta_regularizer=None,
    gamma_regularizer=None,
    beta_constraint=None,
    gamma_constraint=None,
    training=False,
    trainable=True,
    name=None,
    reuse=None,
    renorm=False,
    renorm_clipping=None,
    renorm_momentum=0.99,
    fused=None,
    virtual_batch_size=None,
    adjustment=None,
):
    """Makes a `BatchNormalization` and applies it to `inputs`.

    The averages move only if the training step runs UPDATE_OPS:

        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
          train_op = optimizer.minimize(loss)

    Args:
      inputs: tensor of a floating dtype and any shape.
      training: a bool or a boolean scalar tensor.
      reuse: as `reuse` of `tf.variable_scope`.
      (the others): those of `BatchNormalization`.

    Returns:
      A tensor of the shape and dtype of `inputs`.
    """
    layer = BatchNormalization(
        axis,
        momentum,
        epsilon,
        center,
        scale,
        beta_initializer,
        gamma_initializer,
        moving_mean_initializer,
        moving_variance_initializer,
        beta_regularizer,
        gamma_regularizer,
        beta_constraint,
        gamma_constraint,
        renorm,
        renorm_clipping,
        renorm_momentum,
        fused,
        trainable,
        virtual_batch_size,
        adjustment,
        name,
        _reuse=reuse,
        _scope=name,
    )
    return layer.apply(inputs, training=training)


def _resolve_axes(axis, rank):
    """Returns a list of axes counted from the front."""
    axes = [axis] if isinstance(axis, int) else axis
    resolved = [each + rank if each < 0 else each for each in axes]
    for each in resolved:
        if not 0 <= each < rank:
            raise ValueError(f"Invalid axis: {each}")
    if len(resolved) != len(set(resolved)):
        raise ValueError(f"Duplicate axis: {resolved}")
    return resolved


def _compose(scale, offset, then_scale, then_offset):
    """Returns one scale and offset for two applied in turn."""
    if then_scale is not None:
        scale, offset = scale * then_scale, offset * then_scale
    if then_offset is not None:
        offset += then_offset
    return scale, offset


# Names of tensorflow/python/layers/normalization.py, which programs import too.
BatchNorm = BatchNormalization
batch_norm = batch_normalization
