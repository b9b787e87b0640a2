"""Imports torch once, then becomes each program that it is asked for, in a child of its own."""

import json
import os
import socket
import sys
from types import CodeType


def next_program() -> CodeType:
    """Answer requests; return in the child that is to be the program."""
    began = set(os.environ)
    import torch
    import torch._dynamo

    set_by_torch = {name: value for name, value in os.environ.items() if name not in began}
    with socket.socket(fileno=int(sys.argv[1])) as client:
        while True:
            request, streams, _, _ = socket.recv_fds(client, 1 << 20, 2)
            if not request:
                sys.exit()
            child = os.fork()
            if child == 0:
                break
            for stream in streams:
                os.close(stream)
            client.send(b"%d" % child)
            client.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    script, folder, variables = json.loads(request)
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update({**set_by_torch, **variables})
    os.chdir(folder)
    sys.argv = [script]
    sys.path[0] = os.path.dirname(script)
    vars(sys.modules["__main__"])["__file__"] = script
    torch.seed()  # each Python draws one of its own
    torch._import_device_backends()  # what `import torch` does last: this package comes in
    with open(script) as source:
        program = compile(source.read(), script, "exec", dont_inherit=True)
    for name in [name for name in globals() if not name.startswith("__")]:
        del globals()[name]
    return program


exec(next_program())
