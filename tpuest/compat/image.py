"""`tf.contrib.image` on the operation that it always called.

Takes images `[batch_size, height, width, channels]`, `[height, width, channels]` or `[height, width]`, and
projective transforms as rows of eight numbers, the inverse of the movement; gives images of the same shape.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_DTYPES = (tf.uint8, tf.int32, tf.int64, tf.float16, tf.float32, tf.float64)


def rotate(
    images: Any, angles: Any, interpolation: str = "NEAREST", name: str | None = None
) -> tf.Tensor:
    """Rotates images counterclockwise around their centers.

    Args:
      images: see the module.
      angles: radians, a scalar or one for each image.
      interpolation: 'NEAREST' or 'BILINEAR'.
      name: of the operations.
    """
    with tf.name_scope(name or "rotate"):
        shape = tf.shape(_as_batch(tf.convert_to_tensor(images)))
        height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
        transforms = angles_to_projective_transforms(angles, height, width)
        return transform(images, transforms, interpolation=interpolation)


def translate(
    images: Any, translations: Any, interpolation: str = "NEAREST", name: str | None = None
) -> tf.Tensor:
    """Moves images by `[dx, dy]`, one pair for all or one for each."""
    with tf.name_scope(name or "translate"):
        transforms = translations_to_projective_transforms(translations)
        return transform(images, transforms, interpolation=interpolation)


def transform(
    images: Any,
    transforms: Any,
    interpolation: str = "NEAREST",
    output_shape: Any = None,
    name: str | None = None,
) -> tf.Tensor:
    """Applies projective transforms `[a0, a1, a2, b0, b1, b2, c0, c1]`.

    The output's point (x, y) is the input's ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k), where
    k = c0 x + c1 y + 1; what lies outside is 0.

    Args:
      images: see the module.
      transforms: float32 `[8]` or `[batch_size, 8]`.
      interpolation: 'NEAREST' or 'BILINEAR'.
      output_shape: height and width; `None` is the input's.
      name: of the operations.

    Raises:
      TypeError: the images' type or rank can't be transformed.
    """
    with tf.name_scope(name or "transform"):
        given = tf.convert_to_tensor(images, name="images")
        if given.dtype.base_dtype not in _DTYPES:
            raise TypeError(f"Invalid dtype {given.dtype}.")
        batch = _as_batch(given)
        rows = tf.convert_to_tensor(transforms, name="transforms", dtype=tf.float32)
        if rows.shape.rank == 1:
            rows = rows[None]
        elif rows.shape.rank != 2:
            raise TypeError("Transforms should have rank 1 or 2.")
        size = tf.shape(batch)[1:3] if output_shape is None else output_shape
        size = tf.convert_to_tensor(size, dtype=tf.int32, name="output_shape")
        moved = tf.raw_ops.ImageProjectiveTransformV2(
            images=batch, transforms=rows, output_shape=size, interpolation=interpolation.upper()
        )
        static = tf.get_static_value(size)
        static = batch.shape[1:3] if output_shape is None else static
        if static is not None:
            moved.set_shape([batch.shape[0], static[0], static[1], batch.shape[3]])
        return _like(moved, given.shape.rank)


def _as_batch(images: tf.Tensor) -> tf.Tensor:
    rank = images.shape.rank
    if rank is None:
        raise TypeError("image rank must be statically known")
    if rank == 2:
        return images[None, :, :, None]
    if rank == 3:
        return images[None]
    if rank == 4:
        return images
    raise TypeError("Images should have rank between 2 and 4.")


def _like(batch: tf.Tensor, rank: int) -> tf.Tensor:
    if rank == 2:
        return batch[0, :, :, 0]
    return batch[0] if rank == 3 else batch


def angles_to_projective_transforms(
    angles: Any, image_height: Any, image_width: Any, name: str | None = None
) -> tf.Tensor:
    """Gives `[num_images, 8]` transforms that rotate counterclockwise by radians."""
    with tf.name_scope(name or "angles_to_projective_transforms"):
        angles = tf.convert_to_tensor(angles, name="angles", dtype=tf.float32)
        angles = tf.reshape(angles, [-1]) if angles.shape.rank in (0, 1) else angles
        if angles.shape.rank != 1:
            raise TypeError("Angles should have rank 0 or 1.")
        height, width = tf.cast(image_height, tf.float32) - 1, tf.cast(image_width, tf.float32) - 1
        cos, sin = tf.cos(angles), tf.sin(angles)
        x_offset = (width - (cos * width - sin * height)) / 2.0
        y_offset = (height - (sin * width + cos * height)) / 2.0
        zeros = tf.zeros_like(angles)
        return tf.stack([cos, -sin, x_offset, sin, cos, y_offset, zeros, zeros], axis=1)


def translations_to_projective_transforms(translations: Any, name: str | None = None) -> tf.Tensor:
    """Gives `[num_images, 8]` transforms that move by `[dx, dy]`."""
    with tf.name_scope(name or "translations_to_projective_transforms"):
        moves = tf.convert_to_tensor(translations, name="translations", dtype=tf.float32)
        if moves.shape.rank is None:
            raise TypeError("translations rank must be statically known")
        if moves.shape.rank == 1:
            moves = moves[None]
        elif moves.shape.rank != 2:
            raise TypeError("Translations should have rank 1 or 2.")
        dx, dy = moves[:, 0], moves[:, 1]
        ones, zeros = tf.ones_like(dx), tf.zeros_like(dx)
        return tf.stack([ones, zeros, -dx, zeros, ones, -dy, zeros, zeros], axis=1)


def compose_transforms(*transforms: Any) -> tf.Tensor:
    """Gives the transform that applies the given ones in order."""
    if not transforms:
        raise ValueError("transforms cannot be empty")
    with tf.name_scope("compose_transforms"):
        composed = flat_transforms_to_matrices(transforms[0])
        for rows in transforms[1:]:
            composed = tf.matmul(composed, flat_transforms_to_matrices(rows))
        return matrices_to_flat_transforms(composed)


def flat_transforms_to_matrices(transforms: Any) -> tf.Tensor:
    """Gives `[num_images, 3, 3]` of rows of eight."""
    with tf.name_scope("flat_transforms_to_matrices"):
        rows = tf.convert_to_tensor(transforms, dtype=tf.float32, name="transforms")
        if rows.shape.rank not in (1, 2):
            raise ValueError(f"Transforms should be 2D, got: {transforms}")
        rows = tf.reshape(rows, [-1, 8])
        ones = tf.ones([tf.shape(rows)[0], 1])
        return tf.reshape(tf.concat([rows, ones], axis=1), [-1, 3, 3])


def matrices_to_flat_transforms(transform_matrices: Any) -> tf.Tensor:
    """Gives rows of eight of `[num_images, 3, 3]`."""
    with tf.name_scope("matrices_to_flat_transforms"):
        matrices = tf.convert_to_tensor(transform_matrices, dtype=tf.float32, name="matrices")
        if matrices.shape.rank not in (2, 3):
            raise ValueError(f"Matrices should be 3D, got: {transform_matrices}")
        rows = tf.reshape(matrices, [-1, 9])
        return (rows / rows[:, 8:9])[:, :8]
