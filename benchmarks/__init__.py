from headrace.pipelines.run.memory import choose_pool

choose_pool()  # as the command line does
