"""Optimizers of `tf.contrib.opt` and `tf.contrib.estimator`, on `tf.compat.v1.train`'s.

Takes and gives what TensorFlow 1.15's do: slot names, update order and numbers are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

_train = tf.compat.v1.train

# tf.contrib.layers.OPTIMIZER_CLS_NAMES: for optimize_loss.
OPTIMIZER_CLASSES = {
    "Adagrad": _train.AdagradOptimizer,
    "Adam": _train.AdamOptimizer,
    "Ftrl": _train.FtrlOptimizer,
    "Momentum": lambda learning_rate: _train.MomentumOptimizer(learning_rate, momentum=0.9),
    "RMSProp": _train.RMSPropOptimizer,
    "SGD": _train.GradientDescentOptimizer,
}


class DecoupledWeightDecayExtension:
    """Lets an optimizer decay variables beside its own update.

        class AdamWOptimizer(DecoupledWeightDecayExtension, AdamOptimizer)

    Each step takes `weight_decay * variable` from a variable before its gradient is applied.
    """

    def __init__(self, weight_decay: Any, **kwargs: Any):
        """Makes the optimizer.

        Args:
          weight_decay: scalar, a number or a tensor.
          **kwargs: of the optimizer it extends.
        """
        self._decay_var_list: set | None = None
        self._weight_decay = weight_decay
        self._weight_decay_tensor = None
        super().__init__(**kwargs)

    def minimize(
        self,
        loss: Any,
        global_step: Any = None,
        var_list: Any = None,
        gate_gradients: int = _train.Optimizer.GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
        decay_var_list: Sequence | None = None,
    ) -> Any:
        """Minimizes a loss; decays `decay_var_list`, all variables by default."""
        self._note_decayed(decay_var_list)
        return super().minimize(
            loss,
            global_step=global_step,
            var_list=var_list,
            gate_gradients=gate_gradients,
            aggregation_method=aggregation_method,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
            name=name,
            grad_loss=grad_loss,
        )

    def apply_gradients(
        self,
        grads_and_vars: Any,
        global_step: Any = None,
        name: str | None = None,
        decay_var_list: Sequence | None = None,
    ) -> Any:
        """Applies gradients; decays `decay_var_list`, all variables by default."""
        if decay_var_list is not None:
            self._note_decayed(decay_var_list)
        return super().apply_gradients(grads_and_vars, global_step=global_step, name=name)

    def _note_decayed(self, variables: Sequence | None) -> None:
        self._decay_var_list = {v.ref() for v in variables} if variables else None

    def _is_decayed(self, variable: Any) -> bool:
        return self._decay_var_list is None or variable.ref() in self._decay_var_list

    # The original lets the decay race with the model's read of the variable; here the read comes first.
    def _decayed(self, variable: Any, grad: Any) -> tf.Operation:
        if not self._is_decayed(variable):
            return tf.no_op()
        with tf.control_dependencies([grad]):
            return variable.assign_sub(self._weight_decay_tensor * variable).op

    def _decayed_rows(self, variable: Any, grad: Any, indices: Any) -> tf.Operation:
        """Decays the rows that are in a sparse gradient; the others stay."""
        if not self._is_decayed(variable):
            return tf.no_op()
        with tf.control_dependencies([grad]):
            change = self._weight_decay_tensor * tf.gather(variable, indices)
            return tf.compat.v1.scatter_sub(variable, indices, change).op

    def _prepare(self) -> None:
        weight_decay = self._weight_decay
        if callable(weight_decay):
            weight_decay = weight_decay()
        self._weight_decay_tensor = tf.convert_to_tensor(weight_decay, name="weight_decay")
        super()._prepare()

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        with tf.control_dependencies([self._decayed(var, grad)]):
            return super()._apply_dense(grad, var)

    def _resource_apply_dense(self, grad: Any, var: Any) -> Any:
        with tf.control_dependencies([self._decayed(var, grad)]):
            return super()._resource_apply_dense(grad, var)

    def _apply_sparse(self, grad: Any, var: Any) -> Any:
        with tf.control_dependencies([self._decayed_rows(var, grad.values, grad.indices)]):
            return super()._apply_sparse(grad, var)

    def _resource_apply_sparse(self, grad: Any, var: Any, indices: Any) -> Any:
        with tf.control_dependencies([self._decayed_rows(var, grad, indices)]):
            return super()._resource_apply_sparse(grad, var, indices)


def extend_with_decoupled_weight_decay(base_optimizer: type) -> type:
    """Gives a subclass of an optimizer that decays weights."""

    class OptimizerWithDecoupledWeightDecay(DecoupledWeightDecayExtension, base_optimizer):
        """An optimizer with decoupled weight decay."""

    return OptimizerWithDecoupledWeightDecay


class AdamWOptimizer(DecoupledWeightDecayExtension, _train.AdamOptimizer):
    """Adam with decoupled weight decay."""

    def __init__(
        self,
        weight_decay: Any,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: float = 1e-8,
        use_locking: bool = False,
        name: str = "AdamW",
    ):
        """See `tf.compat.v1.train.AdamOptimizer`; for `weight_decay`, `DecoupledWeightDecayExtension`."""
        super().__init__(
            weight_decay,
            learning_rate=learning_rate,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            use_locking=use_locking,
            name=name,
        )


class MomentumWOptimizer(DecoupledWeightDecayExtension, _train.MomentumOptimizer):
    """Momentum with decoupled weight decay."""

    def __init__(
        self,
        weight_decay: Any,
        learning_rate: Any,
        momentum: Any,
        use_locking: bool = False,
        name: str = "MomentumW",
        use_nesterov: bool = False,
    ):
        """See `tf.compat.v1.train.MomentumOptimizer`."""
        super().__init__(
            weight_decay,
            learning_rate=learning_rate,
            momentum=momentum,
            use_locking=use_locking,
            name=name,
            use_nesterov=use_nesterov,
        )


class LazyAdamOptimizer(_train.AdamOptimizer):
    """Adam that updates, of a sparse gradient, only the rows that are in it."""

    def _apply_sparse(self, grad: Any, var: Any) -> Any:
        return self._update_rows(grad.values, var, grad.indices)

    def _resource_apply_sparse(self, grad: Any, var: Any, indices: Any) -> Any:
        return self._update_rows(grad, var, indices)

    def _update_rows(self, grad: Any, var: Any, indices: Any) -> tf.Operation:
        beta1_power, beta2_power = self._get_beta_accumulators()
        dtype = var.dtype.base_dtype
        beta1_power, beta2_power = tf.cast(beta1_power, dtype), tf.cast(beta2_power, dtype)
        rate, beta1, beta2, epsilon = (
            tf.cast(tensor, dtype)
            for tensor in (self._lr_t, self._beta1_t, self._beta2_t, self._epsilon_t)
        )
        rate *= tf.sqrt(1 - beta2_power) / (1 - beta1_power)
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        new_m = beta1 * tf.gather(m, indices) + (1 - beta1) * grad
        new_v = beta2 * tf.gather(v, indices) + (1 - beta2) * tf.square(grad)
        return tf.group(
            tf.compat.v1.scatter_update(m, indices, new_m, use_locking=self._use_locking),
            tf.compat.v1.scatter_update(v, indices, new_v, use_locking=self._use_locking),
            tf.compat.v1.scatter_sub(
                var,
                indices,
                rate * new_m / (tf.sqrt(new_v) + epsilon),
                use_locking=self._use_locking,
            ),
        )


class LARSOptimizer(_train.Optimizer):
    """Layer-wise adaptive rate scaling (https://arxiv.org/abs/1708.03888).

    The momentum gathers gradients that are already scaled.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: float = 0.9,
        weight_decay: float = 0.0001,
        eeta: float = 0.001,
        epsilon: float = 0.0,
        name: str = "LARSOptimizer",
        skip_list: Sequence[str] | None = None,
        use_nesterov: bool = False,
    ):
        """Makes the optimizer.

        Args:
          learning_rate: the base rate, a number or a tensor.
          momentum: at least 0.
          weight_decay: factor of the weights added to the gradient.
          eeta: the trust coefficient.
          epsilon: added to the trust ratio's denominator.
          name: of the operations.
          skip_list: parts of names whose variables are neither scaled nor decayed.
          use_nesterov: whether the momentum is Nesterov's.

        Raises:
          ValueError: `momentum` is negative.
        """
        if momentum < 0.0:
            raise ValueError(f"momentum should be positive: {momentum}")
        super().__init__(False, name)
        self._learning_rate = learning_rate
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._eeta = eeta
        self._epsilon = epsilon
        self._name = name
        self._skip_list = skip_list
        self._use_nesterov = use_nesterov

    def _create_slots(self, var_list: Sequence) -> None:
        for v in var_list:
            self._zeros_slot(v, "momentum", self._name)

    def compute_lr(self, grad: Any, var: Any) -> tuple[Any, Any]:
        """Gives the variable's own rate, and its gradient with weight decay."""
        rate = self._learning_rate_tensor
        if self._skip_list is not None and any(part in var.name for part in self._skip_list):
            return rate, grad
        weight_norm, gradient_norm = tf.norm(var, ord=2), tf.norm(grad, ord=2)
        ratio = (
            self._eeta
            * weight_norm
            / (gradient_norm + self._weight_decay * weight_norm + self._epsilon)
        )
        is_usable = tf.greater(weight_norm, 0) & tf.greater(gradient_norm, 0)
        return rate * tf.where(is_usable, ratio, 1.0), grad + self._weight_decay * var

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        rate, grad = self.compute_lr(grad, var)
        return tf.raw_ops.ApplyMomentum(
            var=var,
            accum=self.get_slot(var, "momentum"),
            lr=tf.ones([], var.dtype.base_dtype),
            grad=grad * tf.cast(rate, grad.dtype),
            momentum=tf.cast(self._momentum_tensor, var.dtype.base_dtype),
            use_locking=False,
            use_nesterov=self._use_nesterov,
        ).op

    def _resource_apply_dense(self, grad: Any, var: Any) -> Any:
        rate, grad = self.compute_lr(grad, var)
        return tf.raw_ops.ResourceApplyMomentum(
            var=var.handle,
            accum=self.get_slot(var, "momentum").handle,
            lr=tf.ones([], var.dtype.base_dtype),
            grad=grad * tf.cast(rate, grad.dtype),
            momentum=tf.cast(self._momentum_tensor, var.dtype.base_dtype),
            use_locking=False,
            use_nesterov=self._use_nesterov,
        )

    def _prepare(self) -> None:
        rate = self._learning_rate() if callable(self._learning_rate) else self._learning_rate
        self._learning_rate_tensor = tf.convert_to_tensor(rate, name="learning_rate")
        momentum = self._momentum() if callable(self._momentum) else self._momentum
        self._momentum_tensor = tf.convert_to_tensor(momentum, name="momentum")


class _ClippingOptimizer(_train.Optimizer):
    """Changes gradients before another optimizer applies them."""

    def __init__(self, optimizer: Any, clip: Callable, name: str):
        super().__init__(use_locking=False, name=name)
        self._optimizer = optimizer
        self._clip = clip

    def compute_gradients(self, *args: Any, **kwargs: Any) -> Any:
        return self._optimizer.compute_gradients(*args, **kwargs)

    def apply_gradients(
        self, grads_and_vars: Any, global_step: Any = None, name: Any = None
    ) -> Any:
        return self._optimizer.apply_gradients(
            self._clip(list(grads_and_vars)), global_step=global_step, name=name
        )

    def get_slot(self, *args: Any, **kwargs: Any) -> Any:
        return self._optimizer.get_slot(*args, **kwargs)

    def get_slot_names(self, *args: Any, **kwargs: Any) -> Any:
        return self._optimizer.get_slot_names(*args, **kwargs)

    def variables(self) -> Any:
        return self._optimizer.variables()


def clip_gradients_by_norm(optimizer: Any, clip_norm: float) -> _train.Optimizer:
    """Wraps an optimizer so that each gradient's norm is at most `clip_norm`."""

    def clip(grads_and_vars: list) -> list:
        return [
            (None if grad is None else _clip_one(grad, clip_norm), variable)
            for grad, variable in grads_and_vars
        ]

    return _ClippingOptimizer(optimizer, clip, "ClipByNorm" + optimizer.get_name())


def clip_gradients_by_global_norm(gradients_variables: Any, clip_norm: float = 20.0) -> list:
    """Scales gradients so that their common norm is at most `clip_norm`; leaves out those without."""
    gradients, variables = zip(
        *[(g, v) for g, v in gradients_variables if g is not None], strict=True
    )
    clipped, _ = tf.clip_by_global_norm(gradients, clip_norm)
    return list(zip(clipped, variables, strict=True))


def _clip_one(grad: Any, clip_norm: float) -> Any:
    if isinstance(grad, tf.IndexedSlices):
        values = tf.clip_by_norm(grad.values, clip_norm)
        return tf.IndexedSlices(values, grad.indices, grad.dense_shape)
    return tf.clip_by_norm(grad, clip_norm)
