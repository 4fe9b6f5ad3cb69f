"""The figures, one module for each kind. All of them are drawn without a window."""

import os
import sys

# Jupyter passes its backend to every shell command, where matplotlib cannot even be imported with it. A notebook's own
# process keeps it, since it shows figures there.
if "ipykernel" not in sys.modules:
    os.environ["MPLBACKEND"] = "agg"
