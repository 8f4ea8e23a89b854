"""What the provider vault does, done to a real OpenBao: an actor for each resource that we use.

``actors(openbao, token)`` go to ``published_provider("vault", …)``. What the server refuses is the
error that Terraform shows. As in the provider itself, zero, false and nothing are the same as *not
set*, a list that only came back in another order is unchanged, and deleting a KV engine's
configuration does nothing.
"""

import time
from dataclasses import dataclass

from servers.terraform_provider import Actor

TOKEN_FIELDS = ("token_policies", "token_bound_cidrs", "token_ttl", "token_max_ttl")


class Refused(Exception):
    """The server said no; the text is its own."""

    def __init__(self, status, text):
        self.status = status
        super().__init__(text)


@dataclass
class Asked:
    """The server, asked with the token that Terraform was given."""

    openbao: object
    token: str

    def __call__(self, method, path, body=None):
        for _ in range(100):
            status, answer = self.openbao.ask(method, path, body, self.token)
            if status < 300:
                return answer.get("data") or {}
            text = f"{method} {path}: {status} {answer.get('errors')}"
            if "pgrading" not in text:  # a KV engine upgrades itself first, for a moment
                raise Refused(status, text)
            time.sleep(0.05)
        raise Refused(status, text)

    def read(self, path):
        """What is there, or None."""
        try:
            return self("GET", path)
        except Refused as refused:
            # Some paths answer 400 where a mount is missing.
            if refused.status == 404 or "No secret engine" in str(refused):
                return None
            raise


class Kept(Actor):
    """A resource at ``path``, which is its ID as well, and whose ``fields`` the server gives back."""

    fields = ()

    def __init__(self, ask):
        self.ask = ask

    def path(self, values):
        raise NotImplementedError

    def names(self, path):
        """What of the values the path says: an import knows nothing else."""
        raise NotImplementedError

    def write(self, path, values):
        body = {name: values[name] for name in self.fields if values[name] is not None}
        self.ask("POST", path, body)

    def found(self, path):
        return self.ask.read(path)

    def create(self, values):
        path = self.path(values)
        self.write(path, values)
        return self.read({**values, "id": path})

    def update(self, state, values):
        for name in self.fields:
            if values[name] is None and state[name] is not None:
                values = {**values, name: type(state[name])()}
        self.write(state["id"], values)
        return self.read({**state, **values})

    def read(self, state):
        found = self.found(state["id"])
        if found is None:
            return None
        seen = {name: _seen(found.get(name), state[name]) for name in self.fields}
        return {**state, **self.names(state["id"]), **seen}

    def delete(self, state):
        self.ask("DELETE", state["id"])


def _seen(found, before):
    if not found and not before:
        return before
    if isinstance(found, list) and isinstance(before, list) and sorted(found) == sorted(before):
        return before
    return found


class Mount(Kept):
    replaced_for = ("type",)
    fields = ("type", "description", "options")

    def path(self, values):
        return values["path"]

    def names(self, path):
        return {"path": path}

    def write(self, path, values):
        self.ask("POST", f"sys/mounts/{path}", {name: values[name] for name in self.fields})

    def update(self, state, values):
        changed = {name: values[name] for name in ("description", "options")}
        self.ask("POST", f"sys/mounts/{state['id']}/tune", changed)
        return self.read({**state, **values})

    def found(self, path):
        found = self.ask.read(f"sys/mounts/{path}")
        return found and {"accessor": None, **found}

    def delete(self, state):
        self.ask("DELETE", f"sys/mounts/{state['id']}")


class AuthBackend(Mount):
    replaced_for = ("type", "path")
    fields = ("type", "description")

    def write(self, path, values):
        self.ask("POST", f"sys/auth/{path}", {name: values[name] for name in self.fields})

    def update(self, state, values):
        self.ask("POST", f"sys/auth/{state['id']}/tune", {"description": values["description"]})
        return self.read({**state, **values})

    def found(self, path):
        return self.ask.read(f"sys/auth/{path}")

    def delete(self, state):
        self.ask("DELETE", f"sys/auth/{state['id']}")


class KvConfiguration(Kept):
    replaced_for = ("mount",)
    fields = ("max_versions", "cas_required")

    def path(self, values):
        return f"{values['mount']}/config"

    def names(self, path):
        return {"mount": path.removesuffix("/config")}

    def delete(self, state):
        pass


class Policy(Kept):
    replaced_for = ("name",)
    fields = ("policy",)

    def path(self, values):
        return values["name"]

    def names(self, path):
        return {"name": path}

    def write(self, path, values):
        super().write(f"sys/policies/acl/{path}", values)

    def found(self, path):
        return self.ask.read(f"sys/policies/acl/{path}")

    def delete(self, state):
        self.ask("DELETE", f"sys/policies/acl/{state['id']}")


class _Role(Kept):
    replaced_for = ("role_name", "backend")

    def path(self, values):
        return f"auth/{values['backend']}/role/{values['role_name']}"

    def names(self, path):
        backend, _, role = path.removeprefix("auth/").rpartition("/role/")
        return {"backend": backend, "role_name": role}


class AppRole(_Role):
    fields = (
        *("bind_secret_id", "secret_id_ttl", "secret_id_num_uses", "secret_id_bound_cidrs"),
        *TOKEN_FIELDS,
    )

    def read(self, state):
        read = super().read(state)
        return read and {**read, **self.ask("GET", f"{state['id']}/role-id")}


class KubernetesRole(_Role):
    fields = (
        *("bound_service_account_names", "bound_service_account_namespaces", "audience"),
        *TOKEN_FIELDS,
    )


class KubernetesConfiguration(Kept):
    replaced_for = ("backend",)
    fields = (
        *("kubernetes_host", "kubernetes_ca_cert"),
        *("disable_iss_validation", "disable_local_ca_jwt"),
    )

    def path(self, values):
        return f"auth/{values['backend']}/config"

    def names(self, path):
        return {"backend": path.removeprefix("auth/").removesuffix("/config")}

    def delete(self, state):
        pass


class TransitKey(Kept):
    replaced_for = ("backend", "name", "type", "derived")
    made_with = ("type", "derived")
    configured = ("exportable", "allow_plaintext_backup", "deletion_allowed", "auto_rotate_period")
    fields = (*made_with, *configured)

    def path(self, values):
        return f"{values['backend']}/keys/{values['name']}"

    def names(self, path):
        backend, _, name = path.rpartition("/keys/")
        return {"backend": backend, "name": name}

    def create(self, values):
        self.ask("POST", self.path(values), {name: values[name] for name in self.made_with})
        return super().create(values)

    def write(self, path, values):
        self.ask("POST", f"{path}/config", {name: values[name] for name in self.configured})


def actors(openbao, token):
    """One for each type of the module. ``token`` is what Terraform may do."""
    ask = Asked(openbao, token)
    return {
        "vault_mount": Mount(ask),
        "vault_auth_backend": AuthBackend(ask),
        "vault_kv_secret_backend_v2": KvConfiguration(ask),
        "vault_policy": Policy(ask),
        "vault_approle_auth_backend_role": AppRole(ask),
        "vault_kubernetes_auth_backend_role": KubernetesRole(ask),
        "vault_kubernetes_auth_backend_config": KubernetesConfiguration(ask),
        "vault_transit_secret_backend_key": TransitKey(ask),
    }
