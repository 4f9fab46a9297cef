"""Convolutions over 1, 2 and 3 axes: plain, transposed and separable."""

from __future__ import annotations

import functools

import tensorflow.compat.v1 as tf

from tpuest.compat.layers import base, window
from tpuest.compat.layers.function import make_function
from tpuest.compat.layers.input_spec import InputSpec
from tpuest.compat.layers.named import (
    find_activation,
    find_constraint,
    find_initializer,
    find_regularizer,
)


class _Convolution(base.Layer):
    """What all convolutions share: a window, a bias and an activation.

    Args:
      filters: number of output channels.
      kernel_size: int, or one for each axis.
      strides: int, or one for each axis.
      padding: 'valid', 'same', or, over one axis, 'causal'.
      data_format: 'channels_last' or 'channels_first'.
      dilation_rate: int, or one for each axis; excludes strides above 1.
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

    rank: int
    # What the original called the operation: programs fetch tensors by such names.
    _operation_name: str

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format="channels_last",
        dilation_rate=1,
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
        self._set_window(filters, kernel_size, strides, padding, data_format, dilation_rate)
        self.activation = find_activation(activation)
        self.use_bias = use_bias
        self.kernel_initializer = find_initializer(kernel_initializer)
        self.bias_initializer = find_initializer(bias_initializer)
        self.kernel_regularizer = find_regularizer(kernel_regularizer)
        self.bias_regularizer = find_regularizer(bias_regularizer)
        self.kernel_constraint = find_constraint(kernel_constraint)
        self.bias_constraint = find_constraint(bias_constraint)

    def _set_window(self, filters, kernel_size, strides, padding, data_format, dilation_rate):
        self.filters = filters
        self.kernel_size = window.spread(kernel_size, self.rank, "kernel_size")
        self.strides = window.spread(strides, self.rank, "strides")
        self.padding = window.check_padding(padding)
        if self.padding == "causal" and self.rank != 1:
            raise ValueError("Causal padding is only supported for `Conv1D` and `SeparableConv1D`.")
        self.data_format = window.check_data_format(data_format)
        self.dilation_rate = window.spread(dilation_rate, self.rank, "dilation_rate")
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def build(self, input_shape):
        """Makes `kernel` [*kernel_size, channels, filters] and `bias` [filters]."""
        channels = self._read_channels(input_shape)
        self._add_kernel((*self.kernel_size, channels, self.filters))
        self._add_bias()
        self.built = True

    def _read_channels(self, input_shape):
        axis = 1 if self.data_format == "channels_first" else -1
        channels = tf.TensorShape(input_shape).as_list()[axis]
        if channels is None:
            raise ValueError("The channel dimension of the inputs should be defined. Found `None`.")
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={axis: channels})
        return channels

    def _add_kernel(self, shape):
        self.kernel = self.add_weight(
            "kernel",
            shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )

    def _add_bias(self):
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                "bias",
                (self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs):
        """Convolves [batch, ..., channels] into [batch, ..., filters]."""
        outputs = self._convolve(self._pad_causally(inputs))
        return self._activate(self._bias_outputs(outputs))

    def _convolve(self, inputs):
        return tf.nn.convolution(
            inputs,
            self.kernel,
            padding=self._name_padding(),
            strides=self.strides,
            dilation_rate=self.dilation_rate,
            data_format=window.name_data_format(self.data_format, self.rank),
            name=self._operation_name,
        )

    def _name_padding(self):
        if isinstance(self.padding, (list, tuple)):
            return self.padding
        return "VALID" if self.padding == "causal" else self.padding.upper()

    def _pad_causally(self, inputs):
        if self.padding != "causal":
            return inputs
        past = self.dilation_rate[0] * (self.kernel_size[0] - 1)
        if self.data_format == "channels_first":
            return tf.pad(inputs, [[0, 0], [0, 0], [past, 0]])
        return tf.pad(inputs, [[0, 0], [past, 0], [0, 0]])

    def _bias_outputs(self, outputs):
        if not self.use_bias:
            return outputs
        if self.data_format == "channels_first" and self.rank == 1:
            # bias_add has no 'NCW'.
            return outputs + tf.reshape(self.bias, (1, self.filters, 1))
        return tf.nn.bias_add(
            outputs,
            self.bias,
            data_format="NCHW" if self.data_format == "channels_first" else "NHWC",
        )

    def _activate(self, outputs):
        return self.activation(outputs) if self.activation else outputs

    def compute_output_shape(self, input_shape):
        """Returns the shape of the outputs for that of the inputs."""
        measures = [functools.partial(self._measure, axis) for axis in range(self.rank)]
        return window.map_sizes(input_shape, self.data_format, measures, self.filters)

    def _measure(self, axis, size):
        return window.measure_output(
            size,
            self.kernel_size[axis],
            self.strides[axis],
            self.padding,
            self.dilation_rate[axis],
        )


class Conv1D(_Convolution):
    __doc__ = f"Convolution of [batch, steps, channels].\n\n{_Convolution.__doc__}"
    rank = 1
    _operation_name = "conv1d"


class Conv2D(_Convolution):
    __doc__ = f"Convolution of images.\n\n{_Convolution.__doc__}"
    rank = 2
    _operation_name = "Conv2D"


class Conv3D(_Convolution):
    __doc__ = f"Convolution of volumes.\n\n{_Convolution.__doc__}"
    rank = 3
    _operation_name = "Conv3D"


class _TransposedConvolution(_Convolution):
    """What a convolution's gradient computes: from small to large.

    Args: those of a convolution, without `dilation_rate`.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format="channels_last",
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
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            1,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            trainable,
            name,
            **kwargs,
        )

    def build(self, input_shape):
        """Makes `kernel` [*kernel_size, filters, channels] and `bias` [filters]."""
        rank = tf.TensorShape(input_shape).rank
        if rank != self.rank + 2:
            raise ValueError(
                f"Inputs should have rank {self.rank + 2}. Received input shape: {input_shape}"
            )
        channels = self._read_channels(input_shape)
        self._add_kernel((*self.kernel_size, self.filters, channels))
        self._add_bias()
        self.built = True

    def _convolve(self, inputs):
        channels_first = self.data_format == "channels_first"
        # The CPU has no kernel for channels first.
        images = window.put_channels_last(inputs) if channels_first else inputs
        batch_size, *sizes, _ = window.list_sizes(images)
        sizes = [self._measure(axis, size) for axis, size in enumerate(sizes)]
        outputs = self._convolve_transposed(
            images,
            self.kernel,
            tf.stack([batch_size, *sizes, self.filters]),
            (1, *self.strides, 1),
            padding=self.padding.upper(),
        )
        outputs = window.put_channels_first(outputs) if channels_first else outputs
        outputs.set_shape(self.compute_output_shape(inputs.shape))
        return outputs

    def _measure(self, axis, size):
        return window.measure_transposed(
            size, self.kernel_size[axis], self.strides[axis], self.padding
        )


class Conv2DTranspose(_TransposedConvolution):
    __doc__ = f"Transposed convolution of images.\n\n{_TransposedConvolution.__doc__}"
    rank = 2
    _convolve_transposed = staticmethod(tf.nn.conv2d_transpose)


class Conv3DTranspose(_TransposedConvolution):
    __doc__ = f"Transposed convolution of volumes.\n\n{_TransposedConvolution.__doc__}"
    rank = 3
    _convolve_transposed = staticmethod(tf.nn.conv3d_transpose)


class _SeparableConvolution(_Convolution):
    """One window for each channel, then a mixing of the channels.

    Variables: `depthwise_kernel` [*kernel_size, channels, depth_multiplier],
    `pointwise_kernel` [1, ..., channels * depth_multiplier, filters], `bias`.

    Args: those of a convolution; instead of the kernel's, `depthwise_...` and
      `pointwise_initializer`, `..._regularizer` and `..._constraint`; and
      `depth_multiplier`, the number of windows for each channel.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format="channels_last",
        dilation_rate=1,
        depth_multiplier=1,
        activation=None,
        use_bias=True,
        depthwise_initializer=None,
        pointwise_initializer=None,
        bias_initializer=tf.zeros_initializer(),
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        trainable=True,
        name=None,
        **kwargs,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            bias_constraint=bias_constraint,
            trainable=trainable,
            name=name,
            **kwargs,
        )
        self.depth_multiplier = depth_multiplier
        self.depthwise_initializer = find_initializer(depthwise_initializer)
        self.pointwise_initializer = find_initializer(pointwise_initializer)
        self.depthwise_regularizer = find_regularizer(depthwise_regularizer)
        self.pointwise_regularizer = find_regularizer(pointwise_regularizer)
        self.depthwise_constraint = find_constraint(depthwise_constraint)
        self.pointwise_constraint = find_constraint(pointwise_constraint)

    def build(self, input_shape):
        """Makes both kernels and the bias for inputs [batch, ..., channels]."""
        channels = self._read_channels(input_shape)
        self.depthwise_kernel = self.add_weight(
            "depthwise_kernel",
            (*self.kernel_size, channels, self.depth_multiplier),
            initializer=self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
        )
        self.pointwise_kernel = self.add_weight(
            "pointwise_kernel",
            (*[1] * self.rank, channels * self.depth_multiplier, self.filters),
            initializer=self.pointwise_initializer,
            regularizer=self.pointwise_regularizer,
            constraint=self.pointwise_constraint,
        )
        self._add_bias()
        self.built = True

    def _convolve_images(self, images, depthwise, pointwise, strides, rate):
        return tf.nn.separable_conv2d(
            images,
            depthwise,
            pointwise,
            strides=window.place_between_ones(self.data_format)(strides),
            padding=self._name_padding(),
            rate=rate,
            data_format=window.name_data_format(self.data_format, 2),
        )

    def _bias_images(self, outputs):
        if not self.use_bias:
            return outputs
        return tf.nn.bias_add(
            outputs, self.bias, data_format=window.name_data_format(self.data_format, 2)
        )


class SeparableConv1D(_SeparableConvolution):
    __doc__ = (
        f"Separable convolution of [batch, steps, channels].\n\n{_SeparableConvolution.__doc__}"
    )
    rank = 1

    def call(self, inputs):
        """Convolves [batch, steps, channels] into [batch, steps, filters]."""
        # There is no kernel for one axis: the sequence is an image of height 1.
        axis = 2 if self.data_format == "channels_first" else 1
        images = tf.expand_dims(self._pad_causally(inputs), axis)
        outputs = self._convolve_images(
            images,
            tf.expand_dims(self.depthwise_kernel, 0),
            tf.expand_dims(self.pointwise_kernel, 0),
            self.strides * 2,
            (1, *self.dilation_rate),
        )
        return self._activate(tf.squeeze(self._bias_images(outputs), [axis]))


class SeparableConv2D(_SeparableConvolution):
    __doc__ = f"Separable convolution of images.\n\n{_SeparableConvolution.__doc__}"
    rank = 2

    def call(self, inputs):
        """Convolves [batch, height, width, channels] into [..., filters]."""
        outputs = self._convolve_images(
            inputs, self.depthwise_kernel, self.pointwise_kernel, self.strides, self.dilation_rate
        )
        return self._activate(self._bias_images(outputs))


conv1d = make_function("conv1d", Conv1D)
conv2d = make_function("conv2d", Conv2D)
conv3d = make_function("conv3d", Conv3D)
conv2d_transpose = make_function("conv2d_transpose", Conv2DTranspose)
conv3d_transpose = make_function("conv3d_transpose", Conv3DTranspose)
separable_conv1d = make_function("separable_conv1d", SeparableConv1D)
separable_conv2d = make_function("separable_conv2d", SeparableConv2D)

# Names of tensorflow/python/layers/convolutional.py, which programs import too.
Convolution1D = Conv1D
Convolution2D = Conv2D
Convolution3D = Conv3D
Convolution2DTranspose = Deconvolution2D = Deconv2D = Conv2DTranspose
Convolution3DTranspose = Deconvolution3D = Deconv3D = Conv3DTranspose
SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D
convolution1d = conv1d
convolution2d = conv2d
convolution3d = conv3d
convolution2d_transpose = deconvolution2d = deconv2d = conv2d_transpose
convolution3d_transpose = deconvolution3d = deconv3d = conv3d_transpose
separable_convolution2d = separable_conv2d
