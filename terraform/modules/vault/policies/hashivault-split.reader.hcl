# An application, with layout=split: CURRENT and nothing else.
path "${mount}/data/${path}" {
  capabilities = ["read"]
}
