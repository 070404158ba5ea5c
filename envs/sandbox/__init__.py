"""Running programs nobody has read: a warm fork server whose children can compute and little else.

`pool.Sandbox` is what callers use. The other modules run inside the server, which is started without site-packages
and must therefore import the standard library only; they import each other relatively because there the package is
called `sandbox`.

What contains a program, layer by layer, so that no single one has to be perfect:

- *System calls*: an allow-list (`seccomp`) without processes, sockets, signals to others, tracing or mounts.
- *Files*: in a private root (`private_root`: user and mount namespaces) only the interpreter's library is
  visible, read-only, and `/tmp` is an empty folder of bounded size, new for each program. Where the kernel grants no
  namespaces nothing is run, unless `pool.ACCEPT_OPEN_ROOT` says otherwise: the allow-list then forbids opening for
  writing and every other change to a file, and reading what the user may read is possible.
- *Limits*: address space, processor time, file size, open files, core dumps; and time of waiting for nothing (`clock`),
  kept by the server, which kills the program. A program is one process, so nothing survives it.
- *Gold*: tests run in a process of their own (`evaluator`, contained as well), which asks the program's process for
  values (`runner`, `remote`). No expected value is ever in the program's process or in the server it is a copy of.

The server tests the first two on itself before it accepts work, and refuses to work where it finds a hole.

Not contained: timing channels, and defects of the kernel. The library is that of the running interpreter, without
third-party packages. Linux on x86-64 or arm64 only.
"""
