"""The language on one screen, as ``%%step?`` shows it."""

from __future__ import annotations

STEP = """\
A step of the pipeline: what goes in, what comes out, and the code between.

    %%step train -i features, raw:csv=./data/raw.csv -o model, report:json
    model, report = fit(features, raw, learning_rate)

The same in lines, friendly to linters (first line also: #| step: train):

    %%step train
    #| in: features, raw:csv=./data/raw.csv
    #| out: model, report:json
    #| retries: 2

-i, in     NAME                 the output of that name of another step
           NAME=STEP.OUTPUT     one output of that step
           NAME=./path          a file, folder/ or glob, bound as Path (NAME:csv=… loads it)
           NAME=param:P         whatever source the parameter P holds
-o, out    NAME                 a value, kept in the format of its type
           NAME:json            in this format: arrow parquet csv json npy npz safetensors png bin
                                text cloudpickle
           NAME:file.csv, :dir  a Path to write to
           …=./out/{step}.csv   copied there as well
-p, param  names of parameters  (found from the code)
after      steps to wait for           when     a condition on parameters
retries    2                           timeout  90s, 10m, 2h
memory     2GiB                        reuse    auto, never, keep
salt       any text, to run again      hash     more files that count
envvar     environment variables that the step sees

--append   goes on with a step in another cell
--here     runs the cell in this kernel, and stores nothing

The code sees its inputs, the parameters, and the imports, functions, classes and
constants of the notebook's ordinary cells. Nothing else: it runs in a kernel of its own.
%nbpipe? shows the verbs."""
