"""Average and maximum pooling over 1, 2 and 3 axes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow.compat.v1 as tf

from tpuest.compat.layers import base, window
from tpuest.compat.layers.function import make_function
from tpuest.compat.layers.input_spec import InputSpec


class _Pooling(base.Layer):
    """Pooling over `rank` axes by the function `_pool`.

    Args:
      pool_size: int, or one for each axis.
      strides: int, or one for each axis.
      padding: 'valid' or 'same'.
      data_format: 'channels_last' or 'channels_first'.
      name: name of the layer.
      **kwargs: see `Layer`.
    """

    rank: int
    _pool: Callable

    def __init__(
        self, pool_size, strides, padding="valid", data_format="channels_last", name=None, **kwargs
    ):
        super().__init__(name=name, **kwargs)
        if strides is None:
            raise ValueError("Argument `strides` must not be None.")
        self.pool_size = window.spread(pool_size, self.rank, "pool_size")
        self.strides = window.spread(strides, self.rank, "strides")
        self.padding = window.check_padding(padding)
        self.data_format = window.check_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs):
        """Pools [batch, ..., channels], or [batch, channels, ...]."""
        if self.data_format == "channels_last":
            return self._pool_channels_last(inputs)
        # Not every device pools channels first.
        outputs = self._pool_channels_last(window.put_channels_last(inputs))
        return window.put_channels_first(outputs)

    def _pool_channels_last(self, inputs):
        place = window.place_between_ones("channels_last")
        return self._pool(
            inputs, place(self.pool_size), place(self.strides), padding=self.padding.upper()
        )

    def compute_output_shape(self, input_shape):
        """Returns the shape of the outputs for that of the inputs."""
        measures = [functools.partial(self._measure, axis) for axis in range(self.rank)]
        return window.map_sizes(input_shape, self.data_format, measures)

    def _measure(self, axis, size):
        return window.measure_output(size, self.pool_size[axis], self.strides[axis], self.padding)


class _Pooling1D(_Pooling):
    rank = 1

    def call(self, inputs):
        """Pools [batch, steps, channels], or channels first."""
        # The sequence is an image of width 1: the kernels are those of images.
        axis = 3 if self.data_format == "channels_first" else 2
        return tf.squeeze(super().call(tf.expand_dims(inputs, axis)), axis)

    def _pool_channels_last(self, inputs):
        window_size, strides = (1, *self.pool_size, 1, 1), (1, *self.strides, 1, 1)
        return self._pool(inputs, window_size, strides, padding=self.padding.upper())


class _Pooling2D(_Pooling):
    rank = 2

    def call(self, inputs):
        """Pools [batch, height, width, channels], or channels first."""
        place = window.place_between_ones(self.data_format)
        return self._pool(
            inputs,
            place(self.pool_size),
            place(self.strides),
            padding=self.padding.upper(),
            data_format=window.name_data_format(self.data_format, 2),
        )


class _Pooling3D(_Pooling):
    rank = 3


class AveragePooling1D(_Pooling1D):
    __doc__ = f"Average pooling of [batch, steps, channels].\n\n{_Pooling.__doc__}"
    _pool = staticmethod(tf.nn.avg_pool)


class MaxPooling1D(_Pooling1D):
    __doc__ = f"Maximum pooling of [batch, steps, channels].\n\n{_Pooling.__doc__}"
    _pool = staticmethod(tf.nn.max_pool)


class AveragePooling2D(_Pooling2D):
    __doc__ = f"Average pooling of images.\n\n{_Pooling.__doc__}"
    _pool = staticmethod(tf.nn.avg_pool)


class MaxPooling2D(_Pooling2D):
    __doc__ = f"Maximum pooling of images.\n\n{_Pooling.__doc__}"
    _pool = staticmethod(tf.nn.max_pool)


class AveragePooling3D(_Pooling3D):
    __doc__ = f"Average pooling of volumes.\n\n{_Pooling.__doc__}"
    _pool = staticmethod(tf.nn.avg_pool3d)


class MaxPooling3D(_Pooling3D):
    __doc__ = f"Maximum pooling of volumes.\n\n{_Pooling.__doc__}"
    _pool = staticmethod(tf.nn.max_pool3d)


average_pooling1d = make_function("average_pooling1d", AveragePooling1D)
average_pooling2d = make_function("average_pooling2d", AveragePooling2D)
average_pooling3d = make_function("average_pooling3d", AveragePooling3D)
max_pooling1d = make_function("max_pooling1d", MaxPooling1D)
max_pooling2d = make_function("max_pooling2d", MaxPooling2D)
max_pooling3d = make_function("max_pooling3d", MaxPooling3D)

# Names of tensorflow/python/layers/pooling.py, which programs import too.
AvgPool2D = AveragePooling2D
MaxPool2D = MaxPooling2D
avg_pool2d = average_pooling2d
max_pool2d = max_pooling2d
