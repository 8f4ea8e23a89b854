"""The moto server, which forgets two things that the real services remember.

``LastChangedDate`` is when a secret "was modified in any way" (API Reference, DescribeSecret): the
moving of a label is one. A rotation that was killed between the move of AWSCURRENT and its own tag
is dated by it, so with moto's date a grace would seem to be over that has only begun.

``DeadLetterConfig`` is a part of a function's configuration (API Reference, GetFunction). Without
it Terraform would find in each plan that somebody had taken it away.
"""

import time

from moto.awslambda.models import LambdaFunction
from moto.secretsmanager.models import SecretsManagerBackend
from moto.server import main

_moving = SecretsManagerBackend.update_secret_version_stage


def _moving_and_dating(self, secret_id, *args, **kwargs):
    moved = _moving(self, secret_id, *args, **kwargs)
    self.secrets[secret_id].last_changed_date = time.time()
    return moved


SecretsManagerBackend.update_secret_version_stage = _moving_and_dating

_making = LambdaFunction.__init__
_telling = LambdaFunction.get_configuration


def _making_and_keeping(self, account_id, spec, *args, **kwargs):
    self.dead_letter_config = spec.get("DeadLetterConfig")
    _making(self, account_id, spec, *args, **kwargs)


def _telling_all(self, *args, **kwargs):
    told = _telling(self, *args, **kwargs)
    return (
        {**told, "DeadLetterConfig": self.dead_letter_config} if self.dead_letter_config else told
    )


LambdaFunction.__init__ = _making_and_keeping
LambdaFunction.get_configuration = _telling_all

if __name__ == "__main__":
    main()
