"""Takes a context; rows are what it says."""


def run(mini_batch, context=None):
    return [
        type(mini_batch).__mro__[1].__name__,
        mini_batch.task_id,
        mini_batch.minibatch_index,
        context.minibatch_index,
        context.partition_key_value,
        context.dataset is mini_batch,
        context.global_row_index_lower_bound,
    ]
