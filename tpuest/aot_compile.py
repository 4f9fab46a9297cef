"""Compiles HLO with libtpu's compiler, no TPU present; a script that `aot` runs in a process of its own.

    python aot_compile.py STEP.hlo v5e:2x4 8 [--chips-per-host 2,4,1] [--exact]

The last line of output is JSON: the fields of `aot.CompiledStep`, or `refused` with the compiler's message. Needs
jaxlib==0.10.2 and libtpu==0.0.42.1, no TensorFlow: nearly every call here is private to jaxlib, so other versions
may fail.
"""

import argparse
import json
import re

# Of `exec_time_optimization_effort`: 4 to 7 times faster than the default.
_LEAST_EFFORT = -1.0
# Calls by name that stand for what cores do together; their settings are JSON.
PERMUTE, EXCHANGE = "tpuest.collective_permute", "tpuest.all_to_all"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hlo", help="file with a serialized HloModuleProto")
    parser.add_argument("tpu", help="name and shape, such as v5e:2x4")
    parser.add_argument("num_replicas", type=int)
    parser.add_argument("--cores-per-replica", type=int, default=1, help="that share its work")
    parser.add_argument("--chips-per-host", default="2,2,1", help="along three dimensions")
    parser.add_argument("--exact", action="store_true", help="optimize as on a TPU")
    arguments = parser.parse_args()
    with open(arguments.hlo, "rb") as file:
        hlo = file.read()
    chips_per_host = tuple(int(chips) for chips in arguments.chips_per_host.split(","))
    devices = _devices(arguments.tpu, chips_per_host)
    cores = (arguments.num_replicas, arguments.cores_per_replica)
    answer = compile_hlo(hlo, devices, cores, arguments.exact)
    print(json.dumps(answer), flush=True)


def compile_hlo(hlo: bytes, devices: list, cores: tuple[int, int], is_exact: bool = False) -> dict:
    """Compiles HLO.

    Args:
      hlo: a serialized `HloModuleProto`.
      devices: of a TPU that isn't there.
      cores: the number of replicas, and of each one's cores; in all as many as the TPU has.
      is_exact: whether to optimize as on a TPU.

    Returns:
      The fields of `aot.CompiledStep`, or `refused`.
    """
    from jaxlib import _jax

    module = _parse(hlo)
    try:
        executable = devices[0].client.compile(
            module, _device_list(devices, cores), _options(cores, is_exact)
        )
    except _jax.JaxRuntimeError as error:
        return {"refused": str(error)}
    return _figures(executable)


def _devices(tpu, chips_per_host):
    """Lists the devices of a TPU that isn't there."""
    import libtpu
    from jaxlib import xla_client

    xla_client.load_pjrt_plugin_dynamically("tpu", libtpu.get_library_path())
    xla_client.initialize_pjrt_plugin("tpu")
    topology = xla_client.make_tfrt_tpu_c_api_device_topology(
        tpu, chips_per_host_bounds=chips_per_host
    )
    return topology._make_compile_only_devices()


def _device_list(devices, cores):
    from jaxlib import xla_client

    num_replicas, cores_per_replica = cores
    if len(devices) != num_replicas * cores_per_replica:
        raise ValueError(
            f"The TPU has {len(devices)} cores, the step {num_replicas} replicas of {cores_per_replica}."
        )
    return xla_client.DeviceList(tuple(devices))


def _options(cores, is_exact):
    import numpy as np
    from jaxlib import xla_client

    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = cores
    options.device_assignment = xla_client.DeviceAssignment.create(
        np.arange(np.prod(cores)).reshape(cores)
    )
    options.executable_build_options.use_spmd_partitioning = options.num_partitions > 1
    if not is_exact:
        options.executable_build_options.exec_time_optimization_effort = _LEAST_EFFORT
    return options


def _parse(hlo):
    """Reads HLO as StableHLO, the form that the compiler takes."""
    from jaxlib import _jax
    from jaxlib.mlir import ir
    from jaxlib.mlir._mlir_libs import _jax_mlir_ext, _mlirHlo
    from jaxlib.mlir.dialects import chlo, stablehlo

    context, registry = ir.Context(), ir.DialectRegistry()
    _jax_mlir_ext.register_dialects(registry)
    context.append_dialect_registry(registry)
    context.load_all_available_dialects()
    _mlirHlo.register_mhlo_dialect(context)
    stablehlo.register_dialect(context)
    chlo.register_dialect(context)
    with context, ir.Location.unknown(context):
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(hlo), context)
        for operation in list(_operations(module.operation)):
            replacement = _replacement(operation)
            if replacement is not None:
                operation.results[0].replace_all_uses_with(replacement)
                operation.erase()
    return module


def _operations(operation):
    """Yields all operations inside."""
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner.operation
                yield from _operations(inner.operation)


def _replacement(operation):
    """Gives the value that the compiler takes in place of an operation's; `None` to leave the operation.

    It doesn't know the `mhlo.copy`s, one for each variable that is written; calls by name become what they stand for.
    """
    if operation.name == "mhlo.copy":
        return operation.operands[0]
    if operation.name != "stablehlo.custom_call":
        return None
    build = _EXCHANGES.get(operation.attributes["call_target_name"].value)
    if build is None:
        return None
    from jaxlib.mlir import ir

    settings = json.loads(operation.attributes["backend_config"].value)
    with ir.InsertionPoint(operation), operation.location:
        return build(operation, settings).result


def _permute(operation, settings):
    from jaxlib.mlir.dialects import stablehlo

    return stablehlo.CollectivePermuteOp(operation.operands[0], _table(settings["pairs"]))


def _exchange(operation, settings):
    from jaxlib.mlir.dialects import stablehlo

    return stablehlo.AllToAllOp(
        [operation.operands[0]],
        split_dimension=settings["split"],
        concat_dimension=settings["concat"],
        split_count=settings["count"],
        replica_groups=_table(settings["groups"]),
        results=[result.type for result in operation.results],
    )


def _table(rows):
    """Gives rows of numbers as an attribute."""
    import numpy as np
    from jaxlib.mlir import ir

    return ir.DenseIntElementsAttr.get(np.array(rows, np.int64))


_EXCHANGES = {PERMUTE: _permute, EXCHANGE: _exchange}


def _figures(executable):
    stats = executable.get_compiled_memory_stats()
    sizes = {
        "argument_bytes": stats.argument_size_in_bytes,
        "output_bytes": stats.output_size_in_bytes,
        "alias_bytes": stats.alias_size_in_bytes,
        "temporary_bytes": stats.temp_size_in_bytes,
        "code_bytes": stats.generated_code_size_in_bytes,
    }
    total = sum(sizes.values()) - 2 * sizes["alias_bytes"]
    costs = executable.cost_analysis()
    seconds = costs.get("optimal_seconds", 0.0)
    return {
        **sizes,
        "hbm_bytes": total,
        "num_all_reduces": _count(executable, "all-reduce"),
        "num_exchanges": _count(executable, "all-to-all")
        + _count(executable, "collective-permute"),
        "flops": costs.get("flops", 0.0),
        "bytes_accessed": costs.get("bytes accessed", 0.0),
        # Negative for most steps that train (libtpu 0.0.42.1).
        "optimal_seconds": seconds if seconds > 0 else None,
    }


def _count(executable, name):
    """Counts an operation of the compiled program, in one step or begun and ended."""
    text = "\n".join(module.to_string() for module in executable.hlo_modules())
    return len(re.findall(rf"= .*\b{name}(?:-start)?\(", text))


if __name__ == "__main__":
    main()
