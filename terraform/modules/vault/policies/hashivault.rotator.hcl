# Rotation. To make the secret ("cmzon-secrets put --create"), "create" is needed too, once.
path "${mount}/data/${path}" {
  capabilities = ["read", "update"]
}
