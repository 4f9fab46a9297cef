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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hlo", help="file with a serialized HloModuleProto")
    parser.add_argument("tpu", help="name and shape, such as v5e:2x4")
    parser.add_argument("num_replicas", type=int)
    parser.add_argument("--chips-per-host", default="2,2,1", help="along three dimensions")
    parser.add_argument("--exact", action="store_true", help="optimize as on a TPU")
    arguments = parser.parse_args()
    with open(arguments.hlo, "rb") as file:
        hlo = file.read()
    chips_per_host = tuple(int(chips) for chips in arguments.chips_per_host.split(","))
    devices = _devices(arguments.tpu, chips_per_host)
    answer = compile_hlo(hlo, devices, arguments.num_replicas, arguments.exact)
    print(json.dumps(answer), flush=True)


def compile_hlo(hlo: bytes, devices: list, num_replicas: int, is_exact: bool = False) -> dict:
    """Compiles HLO.

    Args:
      hlo: a serialized `HloModuleProto`.
      devices: of a TPU that isn't there.
      num_replicas: as many as the TPU has cores.
      is_exact: whether to optimize as on a TPU.

    Returns:
      The fields of `aot.CompiledStep`, or `refused`.
    """
    from jaxlib import _jax

    module = _parse(hlo)
    try:
        executable = devices[0].client.compile(
            module, _device_list(devices, num_replicas), _options(num_replicas, is_exact)
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


def _device_list(devices, num_replicas):
    from jaxlib import xla_client

    if len(devices) != num_replicas:
        raise ValueError(f"The TPU has {len(devices)} cores, the step {num_replicas} replicas.")
    return xla_client.DeviceList(tuple(devices))


def _options(num_replicas, is_exact):
    import numpy as np
    from jaxlib import xla_client

    options = xla_client.CompileOptions()
    options.num_replicas = num_replicas
    options.num_partitions = 1
    options.device_assignment = xla_client.DeviceAssignment.create(
        np.arange(num_replicas).reshape(num_replicas, 1)
    )
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
        copies = list(_copies(module.operation))
        for copy in copies:
            copy.results[0].replace_all_uses_with(copy.operands[0])
            copy.erase()
    return module


def _copies(operation):
    """Yields the `mhlo.copy`s, one for each variable that is written: the compiler doesn't know them."""
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                if inner.operation.name == "mhlo.copy":
                    yield inner.operation
                else:
                    yield from _copies(inner.operation)


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
        "num_all_reduces": _count_all_reduces(executable),
        "flops": costs.get("flops", 0.0),
        "bytes_accessed": costs.get("bytes accessed", 0.0),
        # Negative for most steps that train (libtpu 0.0.42.1).
        "optimal_seconds": seconds if seconds > 0 else None,
    }


def _count_all_reduces(executable):
    text = "\n".join(module.to_string() for module in executable.hlo_modules())
    return len(re.findall(r"= .*\ball-reduce(?:-start)?\(", text))


if __name__ == "__main__":
    main()
