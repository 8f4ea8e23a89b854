"""The moto server, which forgets to date one change that the real service dates.

``LastChangedDate`` is when a secret "was modified in any way" (API Reference, DescribeSecret): the
moving of a label is one. A rotation that was killed between the move of AWSCURRENT and its own tag
is dated by it, so with moto's date a grace would seem to be over that has only begun.
"""

import time

from moto.secretsmanager.models import SecretsManagerBackend
from moto.server import main

_moving = SecretsManagerBackend.update_secret_version_stage


def _moving_and_dating(self, secret_id, *args, **kwargs):
    moved = _moving(self, secret_id, *args, **kwargs)
    self.secrets[secret_id].last_changed_date = time.time()
    return moved


SecretsManagerBackend.update_secret_version_stage = _moving_and_dating

if __name__ == "__main__":
    main()
