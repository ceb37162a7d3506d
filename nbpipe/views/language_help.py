"""The syntax of steps on one screen, shown by ``%%step?``."""

from __future__ import annotations

STEP = """\
A step of the pipeline: its inputs, its outputs, and the code between them.

    %%step train -i features, raw:csv=./data/raw.csv -o model, report:json
    model, report = fit(features, raw, learning_rate)

The same as #| lines, which suit linters (the first line may also be #| step: train):

    %%step train
    #| in: features, raw:csv=./data/raw.csv
    #| out: model, report:json
    #| retries: 2

-i, in     NAME                 the output of that name of another step
           NAME=STEP.OUTPUT     one output of that step
           NAME=./path          a file, folder/ or glob, bound as Path (NAME:csv=… loads it)
           NAME=store:S/path    the same in a datastore; https://… for a file of the web
           NAME=ds:D, ds:D@3    the newest, or that, version of the dataset D
           NAME=param:P         what the parameter P names
-o, out    NAME                 a value, stored in the format of its type
           NAME:json            in this format: arrow parquet csv json npy npz safetensors figure
                                png bin text cloudpickle
           NAME:file.csv, :dir  a Path to write to
           …=./out/{step}.csv   also copied to this path, or to store:S/path
-p, param  names of parameters  (by default found in the code)
after      steps to wait for           when     a condition on parameters
retries    2                           timeout  90s, 10m, 2h
cpu        2 (cores; by default 1)     gpu      1 (by default none)
memory     2GiB                        compute  the name of a compute target
reuse      auto, never, keep           envvar   environment variables that it sees
salt       any text; a change reruns   hash     more files that count
register   OUTPUT=D: the output becomes a version of the dataset D
download   inputs to copy              mount    inputs to read in place
shows      true: what the cell displays is an output; it is shown again on reuse

--append   continues a step in another cell
--here     runs the cell in this kernel and stores nothing

The code sees its inputs, the parameters, and the imports, functions, classes and
constants of the notebook's ordinary cells, but nothing else: it runs in its own kernel.
%nbpipe? shows the verbs."""
