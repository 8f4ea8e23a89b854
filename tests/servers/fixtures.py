"""The fixtures of all servers, for every test of the tree."""

from servers.chromium import axe, chromium, launch, visit  # noqa: F401  # fixtures
from servers.entra import entra, entra_before_key_vault  # noqa: F401  # fixtures
from servers.http_sessions import open_session  # noqa: F401  # fixture
from servers.key_vault import key_vault, key_vault_server  # noqa: F401  # fixtures
from servers.key_vault_keys import key_vault_with_keys  # noqa: F401  # fixtures
from servers.ministack import ministack, ministack_server  # noqa: F401  # fixtures
from servers.moto_server import moto, moto_server, moto_server_url  # noqa: F401  # fixtures
from servers.openbao import openbao, vault_environment  # noqa: F401  # fixtures
from servers.redis import own_redis, redis_server  # noqa: F401  # fixtures
from servers.sending_account import in_its_environment, sending_account  # noqa: F401  # fixtures
from servers.strict_aws import strict_aws, strict_aws_server  # noqa: F401  # fixtures
from servers.strict_kms import strict_kms, strict_kms_server  # noqa: F401  # fixtures
from servers.terraform import terraform  # noqa: F401  # fixture
from servers.terraform_provider import published_provider  # noqa: F401  # fixture
