# An application: CURRENT, and with layout=single whatever else the secret holds.
path "${mount}/data/${path}" {
  capabilities = ["read"]
}
