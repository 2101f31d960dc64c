"""What all checks of deploy/ share."""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEPLOY = f"{ROOT}/deploy"


def check(is_right, what):
    if not is_right:
        sys.exit(f"deploy/: {what}")
