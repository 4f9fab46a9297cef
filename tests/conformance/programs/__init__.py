"""Conformance programs: old-style TPUEstimator programs as data, runnable under the original and tpuest."""

from programs import (
    cnn_batch_norm,
    control_flow,
    dropout,
    gradient_clipping,
    hand_written_optimizer,
    host_call,
    learning_rate_schedule,
    linear,
    mlp,
    moving_average,
    multi_head,
    slots,
    text_mean_pooling,
)
from programs.program import Api, Program

__all__ = ["PROGRAMS", "Api", "Program"]

PROGRAMS = {
    program.name: program
    for program in (
        linear.PROGRAM,
        mlp.PROGRAM,
        cnn_batch_norm.PROGRAM,
        text_mean_pooling.PROGRAM,
        hand_written_optimizer.ADAM_WEIGHT_DECAY,
        hand_written_optimizer.BERT_CLIPPING,
        moving_average.PROGRAM,
        gradient_clipping.GRADIENT_CLIPPING,
        gradient_clipping.CLIPPING_OPTIMIZER,
        learning_rate_schedule.PROGRAM,
        control_flow.PROGRAM,
        multi_head.PROGRAM,
        host_call.PROGRAM,
    )
    + dropout.PROGRAMS
    + slots.PROGRAMS
}
