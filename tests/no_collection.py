"""What a fork server imports first: without garbage collection the other imports take a third less.

`tests.processes` turns it on again in each fork, and exempts everything imported.
"""

import gc

gc.disable()
