"""Run untrusted programs: a warm fork server whose children can do little besides computing.

`pool.Sandbox` is what callers use. The other modules run inside the server, which is started without site-packages
and must therefore import the standard library only; they import each other relatively because there the package is
called `sandbox`.

A program is contained by several layers, so that no single one has to be perfect:

- *System calls*: an allow-list (`seccomp`) without processes, sockets, signals to others, tracing or mounts.
- *Files*: in a private root (`private_root`: user and mount namespaces) only the interpreter's library is
  visible, read-only, and `/tmp` is an empty folder of bounded size, new for each program. If the kernel grants no
  namespaces nothing is run, unless `pool.ACCEPT_OPEN_ROOT` says otherwise: the allow-list then forbids opening for
  writing and every other change to a file, and reading what the user may read is possible.
- *Limits*: address space, processor time, file size, open files, core dumps; and idle time (`clock`),
  enforced by the server, which kills the program. A program is one process, so nothing survives it.
- *Gold*: tests run in a process of their own (`evaluator`, contained as well), which asks the program's process for
  values (`runner`, `remote`). No expected value is ever in the program's process or in the server it is forked from.

The server tests the first two on itself before it accepts work, and refuses to work if a guard fails.

Not contained: timing channels, and defects of the kernel. The library is that of the running interpreter, without
third-party packages. Only Linux on x86-64 or arm64 is supported.
"""
