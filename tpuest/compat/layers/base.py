"""`tf.layers.Layer`: variables by name, as TF 1 had them.

    layer = Dense(10)       a name, no variables yet
    layer(x)                open the variable scope
                            build(x.shape): add_weight -> tf.get_variable
                            call(x)
                            updates -> UPDATE_OPS

Takes tensors of a TF 1 graph (a `tf.Graph` or a function's graph), gives
tensors; all that a training loop needs of the layer lies in the graph's
collections. Rules are those of TF 1.15's `tensorflow/python/layers/base.py`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tpuest.compat.layers import arguments, graph, naming, weights
from tpuest.compat.layers.input_spec import InputSpec, check_inputs
from tpuest.compat.layers.named import find_constraint, find_regularizer

# Keras allowed these to every layer; only a Keras model reads them.
_IGNORED_ARGUMENTS = frozenset(["autocast", "batch_input_shape", "batch_size", "input_shape"])


class Layer:
    """A function with variables, which are made when it is first called.

        class Scale(tf.layers.Layer):
          def build(self, input_shape: Any) -> None:
            self.factor = self.add_weight('factor', input_shape[-1:])
            super().build(input_shape)
          def call(self, inputs):
            return inputs * self.factor

    Args:
      trainable: whether the variables go to TRAINABLE_VARIABLES.
      name: name of the layer, also its variable scope's unless `_scope` is
        given. `None`: the class's name in snake case, made unique.
      dtype: dtype of the variables. `None`: that of the first input.
      **kwargs: `activity_regularizer`; `_scope`, a str or `VariableScope` to
        use as it is; `_reuse`, as `reuse` of `tf.variable_scope`.

    Raises:
      TypeError: an unknown keyword argument.

    Differs from tf.layers: not a `tf.Module` nor a Keras layer, so object-based
    checkpoints (`tf.train.Checkpoint(layer=...)`) don't see its variables.
    """

    def __init__(
        self,
        trainable: bool = True,
        name: str | tf.VariableScope | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        scope = kwargs.pop("_scope", None)
        self._reuse = kwargs.pop("_reuse", None)
        self.activity_regularizer = find_regularizer(kwargs.pop("activity_regularizer", None))
        _refuse_unknown(kwargs)
        self.trainable = trainable
        self.stateful = False
        self.supports_masking = False
        self.input_spec = None
        self.built = False
        self._dtype = dtype
        self._trainable_weights = []
        self._non_trainable_weights = []
        self._inputs = []
        self._updates = []
        self._losses = []
        self._loss_functions = []
        self._init_set_name(name)
        self._scope = _capture_scope(scope) if scope else None
        self._current_scope = None

    # --- what the layer is called

    def _init_set_name(self, name):
        default_name = naming.to_snake_case(type(self).__name__)
        if name and not isinstance(name, tf.VariableScope):
            self._name = self._base_name = name
        else:
            self._name = naming.make_unique(default_name)
            self._base_name = name.name if name else default_name

    @property
    def name(self) -> str:
        return self._name

    @property
    def scope_name(self) -> str:
        """Name of the variable scope: a str, known once the layer was called."""
        if not self._scope:
            raise ValueError(
                f'No name available for layer scope because the layer "{self._name}" '
                "has not been used yet. Call the layer, then read `scope_name`."
            )
        return self._scope.name

    @property
    def graph(self) -> None:
        """Always `None`: layers stopped keeping their graph in TF 1.13."""
        return None

    @property
    def dtype(self) -> str | None:
        """Name of the variables' dtype, or `None` before it is known."""
        return None if self._dtype is None else tf.as_dtype(self._dtype).name

    @property
    def input_spec(self):
        return self._input_spec

    @input_spec.setter
    def input_spec(self, specs):
        for spec in tf.nest.flatten(specs):
            # By name too: other packages have an InputSpec of the same fields.
            if spec is not None and type(spec).__name__ != "InputSpec":
                raise TypeError(f"Layer input_spec must be an instance of InputSpec. Got: {spec}")
        self._input_spec = tf.nest.map_structure(_adopt_spec, specs)

    # --- what the layer owns

    @property
    def trainable_weights(self) -> list:
        return list(self._trainable_weights) if self.trainable else []

    @property
    def non_trainable_weights(self) -> list:
        if self.trainable:
            return list(self._non_trainable_weights)
        return self._trainable_weights + self._non_trainable_weights

    @property
    def weights(self) -> list:
        return self.trainable_weights + self.non_trainable_weights

    @property
    def trainable_variables(self) -> list:
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list:
        return self.non_trainable_weights

    @property
    def variables(self) -> list:
        return self.weights

    @property
    def updates(self) -> list[tf.Operation]:
        """Update operations; none while the layer is frozen."""
        if not self.trainable and not self.stateful:
            return []
        return list(self._updates)

    @property
    def losses(self) -> list[tf.Tensor]:
        """Scalar loss tensors of regularizers and `add_loss`.

        Differs from tf.layers: in a graph these are the tensors in
        REGULARIZATION_LOSSES, not new ones at every look.
        """
        values = [function() for function in self._loss_functions]
        return self._losses + [value for value in values if value is not None]

    def count_params(self) -> int:
        """Returns the number of scalars in the variables."""
        if not self.built:
            raise ValueError(
                f"You tried to call `count_params` on {self.name}, but "
                "the layer isn't built. Call the layer first."
            )
        return sum(int(np.prod(weight.shape.as_list())) for weight in self.weights)

    # --- what a subclass overrides

    def build(self, input_shape):
        """Makes the variables.

        Args:
          input_shape: `tf.TensorShape`, or a structure of them as the inputs'.
        """
        del input_shape
        self.built = True

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        """Computes the outputs from the inputs."""
        del kwargs
        return inputs

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask of the outputs, or `None`."""
        del inputs
        return mask if self.supports_masking else None

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """Returns the `tf.TensorShape` of the outputs for that of the inputs."""
        raise NotImplementedError(f"{type(self).__name__} does not define compute_output_shape")

    # --- what a subclass calls

    def add_weight(
        self,
        name,
        shape,
        dtype=None,
        initializer=None,
        regularizer=None,
        trainable=None,
        constraint=None,
        use_resource=None,
        synchronization=tf.VariableSynchronization.AUTO,
        aggregation=tf.VariableAggregation.NONE,
        partitioner=None,
        **kwargs,
    ):
        """Makes a variable in the layer's scope, or finds it there.

        Args:
          name: name within the scope.
          shape: sizes of the variable.
          dtype: `None` means the layer's, or float32.
          initializer: callable or Keras name. `None`: the variable scope's, then
            Glorot uniform for floats and zeros for integers and booleans.
          regularizer: callable from the variable to a scalar loss or `None`.
          trainable: `None` means `True`, unless `synchronization` is ON_READ.
          constraint: callable from the updated value to the one to keep.
          use_resource: whether to make a resource variable; `None`: the scope's.
          synchronization: see `tf.get_variable`.
          aggregation: see `tf.get_variable`.
          partitioner: see `tf.get_variable`.
          **kwargs: only `experimental_autocast`, which says nothing here.

        Returns:
          The variable, of shape `shape`; a `PartitionedVariable` if partitioned.

        Raises:
          TypeError: an unknown keyword argument.
          ValueError: `trainable=True` with ON_READ, or a dtype without a default
            initializer.
        """
        if set(kwargs) - {"experimental_autocast"}:
            raise TypeError("Unknown keyword argument:", *kwargs)
        trainable = self.trainable and weights.decide_trainable(trainable, synchronization)
        dtype = tf.as_dtype(dtype or self.dtype or tf.float32)
        if self._dtype is None:
            self._dtype = dtype.base_dtype.name
        self._set_scope(None)
        existing = weights.list_existing() if regularizer else frozenset()
        with self._enter_scope(reuse=self.built or self._reuse) as scope:
            variable = tf.get_variable(
                name,
                tuple(shape or ()),
                dtype=dtype,
                initializer=weights.choose_initializer(initializer, scope, dtype),
                trainable=trainable,
                constraint=find_constraint(constraint),
                partitioner=partitioner,
                use_resource=use_resource or scope.use_resource,
                synchronization=synchronization,
                aggregation=aggregation,
            )
            parts = weights.list_parts(variable)
            self._keep_weights(parts, trainable)
            if regularizer and not any(id(part) in existing for part in parts):
                self._regularize(name, parts, find_regularizer(regularizer))
        return variable

    def add_variable(self, *args: Any, **kwargs: Any) -> tf.Variable:
        """The old name of `add_weight`."""
        return self.add_weight(*args, **kwargs)

    def add_loss(self, losses: Any, inputs: Any = None) -> None:
        """Adds scalar losses to the layer's and to REGULARIZATION_LOSSES.

        Args:
          losses: tensors, or callables that make them (or `None`), or a list.
          inputs: unused; `get_losses_for` looks at the graph instead.
        """
        del inputs
        for loss in tf.nest.flatten(losses):
            if callable(loss) and tf.executing_eagerly():
                self._loss_functions.append(loss)
                continue
            loss = loss() if callable(loss) else loss
            if loss is not None:
                self._losses.append(tf.convert_to_tensor(loss))
        if not tf.executing_eagerly():
            graph.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, self._losses)

    def add_update(self, updates: Any, inputs: Any = None) -> None:
        """Adds operations that a training step should run.

        Args:
          updates: operations, tensors, or callables that make them, or a list.
            Executing eagerly, the callables run and nothing is kept.
          inputs: unused; `get_updates_for` looks at the graph instead.
        """
        del inputs
        for update in tf.nest.flatten(updates):
            update = update() if callable(update) else update
            if not tf.executing_eagerly():
                self._updates.append(getattr(update, "op", update))

    def get_updates_for(self, inputs: Any) -> list[tf.Operation]:
        """Returns the updates that depend on `inputs`; `None`: on no input."""
        return self._select_for(inputs, self.updates)

    def get_losses_for(self, inputs: Any) -> list[tf.Tensor]:
        """Returns the losses that depend on `inputs`; `None`: on no input."""
        return self._select_for(inputs, self.losses)

    # --- calling it

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Makes the variables if need be, and applies the layer.

        Args:
          inputs: a tensor or a structure of tensors; arrays and numbers become
            tensors.
          *args: passed to `call`.
          **kwargs: passed to `call`, except `scope`, the variable scope to use.

        Returns:
          What `call` returns.

        Raises:
          ValueError: the inputs don't fit `input_spec`, or `call` gave `None`.
        """
        self._set_scope(kwargs.pop("scope", None))
        if tf.executing_eagerly():
            self._losses.clear()
        inputs = tf.nest.map_structure(_to_tensor, inputs)
        with self._enter_scope(reuse=True if self.built else self._reuse) as scope:
            check_inputs(self.input_spec, inputs, self.name)
            self._build_once(inputs)
            outputs = self._apply_call(scope, inputs, args, kwargs)
            if outputs is None:
                raise ValueError(
                    "A layer's `call` method should return a Tensor or a "
                    f"list of Tensors, not None (layer: {self.name})."
                )
            self._regularize_activity(outputs)
        if not tf.executing_eagerly():
            graph.add_to_collection(tf.GraphKeys.UPDATE_OPS, self.updates)
        return outputs

    def apply(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The same as calling the layer."""
        return self(inputs, *args, **kwargs)

    def __deepcopy__(self, memo):
        """Copies the layer; scopes, variables and tensors stay shared."""
        duplicate = type(self).__new__(type(self))
        memo[id(self)] = duplicate
        for key, value in vars(self).items():
            shared = isinstance(value, tf.VariableScope) or _holds_tensors(value)
            if shared:
                # The copy may add to its lists.
                duplicate.__dict__[key] = list(value) if isinstance(value, list) else value
            else:
                duplicate.__dict__[key] = copy.deepcopy(value, memo)
        return duplicate

    def _set_scope(self, scope):
        if self._scope is not None:
            return
        if self._reuse:
            # AUTO_REUSE counts too: no suffix may be added to a name that is shared.
            self._scope = _capture_scope(scope if scope is not None else self._base_name)
        else:
            self._scope = _capture_scope(scope, default_name=self._base_name)

    @contextlib.contextmanager
    def _enter_scope(self, reuse):
        with tf.variable_scope(self._scope, reuse=reuse, auxiliary_name_scope=False) as scope:
            self._current_scope = scope
            with tf.name_scope(self._name_scope()):
                yield scope

    def _name_scope(self):
        return self._current_scope.original_name_scope

    def _build_once(self, inputs):
        if self.built:
            return
        tensors = tf.nest.flatten(inputs)
        if self._dtype is None and tensors and hasattr(tensors[0], "dtype"):
            self._dtype = tensors[0].dtype.base_dtype.name
        have_shapes = all(hasattr(tensor, "shape") for tensor in tensors)
        self.build(tf.nest.map_structure(lambda t: t.shape, inputs) if have_shapes else None)
        self.built = True

    def _apply_call(self, scope, inputs, args, kwargs):
        self._inputs += [tensor for tensor in tf.nest.flatten(inputs) if tf.is_tensor(tensor)]
        mask = arguments.find_masks(inputs)
        filled = arguments.fill_arguments(self.call, scope, mask, args, kwargs)
        with arguments.training_of_caller(filled.training):
            outputs = self.call(inputs, *args, **filled.kwargs)
        self._set_masks(inputs, outputs, filled.mask)
        return outputs

    def _set_masks(self, inputs, outputs, mask):
        overridden = type(self).compute_mask is not Layer.compute_mask
        if outputs is None or not (overridden or self.supports_masking):
            return
        masks = tf.nest.flatten(self.compute_mask(inputs, mask))
        for output, output_mask in zip(tf.nest.flatten(outputs), masks, strict=False):
            if output_mask is not None and tf.is_tensor(output):
                output._keras_mask = output_mask

    def _keep_weights(self, parts, trainable):
        # A custom getter may have frozen the variable, or given a tensor instead.
        for part in parts:
            if trainable and getattr(part, "trainable", False):
                self._trainable_weights.append(part)
            else:
                self._non_trainable_weights.append(part)

    def _regularize(self, name, parts, regularizer):
        def penalize(part):
            with tf.name_scope(name + "/Regularizer"):
                return regularizer(part)

        for part in parts:
            self.add_loss(functools.partial(penalize, part))

    def _regularize_activity(self, outputs):
        if not self.activity_regularizer:
            return
        with tf.name_scope("ActivityRegularizer"):
            for output in tf.nest.flatten(outputs):
                loss = self.activity_regularizer(output)
                # The mean over the batch, so that batches of any size weigh the same.
                self.add_loss(loss / tf.cast(tf.shape(output)[0], loss.dtype))

    def _select_for(self, inputs, elements):
        sources = self._inputs if inputs is None else tf.nest.flatten(inputs)
        dependent = [graph.depends_on(element, sources) for element in elements]
        return [
            element
            for element, depends in zip(elements, dependent, strict=True)
            if depends is (inputs is not None)
        ]


def _refuse_unknown(kwargs):
    unknown = sorted(set(kwargs) - _IGNORED_ARGUMENTS)
    if unknown:
        raise TypeError(f"Keyword argument not understood: {', '.join(unknown)}")


def _capture_scope(name_or_scope, default_name=None):
    with tf.variable_scope(name_or_scope, default_name=default_name) as scope:
        return scope


def _adopt_spec(spec):
    if spec is None or isinstance(spec, InputSpec):
        return spec
    return InputSpec(spec.dtype, spec.shape, spec.ndim, spec.max_ndim, spec.min_ndim, spec.axes)


def _to_tensor(value):
    if isinstance(value, (np.ndarray, float, int)):
        return tf.convert_to_tensor(value)
    return value


def _holds_tensors(value):
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_holds_tensors, value))
    return tf.is_tensor(value) or isinstance(value, (tf.Variable, tf.Operation))
