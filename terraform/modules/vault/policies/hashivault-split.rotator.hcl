# Rotation, with layout=split. To make the secrets ("cmzon-secrets put --create"), "create" is needed
# too, once.
path "${mount}/data/${path}" {
  capabilities = ["read", "update"]
}

path "${mount}/data/${path}.rotation" {
  capabilities = ["read", "update"]
}
