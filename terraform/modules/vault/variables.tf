variable "name" {
  description = "The account: its tokens at CMzon bear this name, and so do the policies and roles made here (`NAME-rotator`)."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,46}[a-z0-9]$", var.name))
    error_message = "name: Vault keeps the names of policies in lower case, and roles are named alike; use 2 to 48 letters a-z, digits and hyphens, a letter first."
  }
}

# Where the tokens lie

variable "mount" {
  description = "Path of the KV engine, version 2."
  type        = string
  default     = "cmzon"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.mount))
    error_message = "mount: it becomes part of policies and URIs; use letters, digits, _ and -, with single slashes between the parts and none at the ends."
  }
}

variable "create_mount" {
  description = "Make the engine, with `max_versions` and `cas_required`. `false`: it exists, and its settings are left alone."
  type        = bool
  default     = true
}

variable "path" {
  description = "The token's secret within the mount. Default: `name`."
  type        = string
  default     = null

  validation {
    condition     = var.path == null ? true : can(regex("^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$", var.path)) && !endswith(var.path, ".rotation")
    error_message = "path: it becomes part of policies and URIs, and PATH.rotation is the other half of layout = \"split\"; use letters, digits, . _ and -, with single slashes between the parts, and another end than .rotation."
  }
}

variable "admin_path" {
  description = "The secret within the mount that holds the admin token, the one with `tokens:manage`. Several accounts may share it. Default: `PATH-admin`."
  type        = string
  default     = null

  validation {
    condition     = var.admin_path == null ? true : can(regex("^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$", var.admin_path)) && !endswith(var.admin_path, ".rotation")
    error_message = "admin_path: it becomes part of policies and URIs; use letters, digits, . _ and -, with single slashes between the parts, and another end than .rotation."
  }

  validation {
    condition     = var.admin_path == null ? true : var.admin_path != coalesce(var.path, var.name)
    error_message = "admin_path: whoever reads the token would read the admin token with it; name another secret than path."
  }
}

variable "layout" {
  description = "`single`: all stages in one secret. `split`: readers, and what copies whole secrets, cannot see PENDING and PREVIOUS."
  type        = string
  default     = "single"

  validation {
    condition     = contains(["single", "split"], var.layout)
    error_message = "layout: the store knows two; use \"single\" or \"split\"."
  }
}

variable "max_versions" {
  description = "Versions that KV keeps of each secret. A rotation writes three; revoked tokens are worth nothing, but need not stay for ever."
  type        = number
  default     = 4

  validation {
    condition     = var.max_versions >= 1 && var.max_versions <= 100 && floor(var.max_versions) == var.max_versions
    error_message = "max_versions: 0 means 10 to Vault, and each version holds old tokens; use a whole number from 1 to 100."
  }
}

variable "cas_required" {
  description = "KV refuses writes that do not say which version they replace. cmzon-secrets always says it; a write by hand needs `-cas=VERSION`."
  type        = bool
  default     = true
}

# Who may what

variable "approle" {
  description = <<-EOT
    An AppRole for a rotator outside Kubernetes. `mount`: path of the auth method below `auth/`, which `create_mount` makes.
    `secret_id_bound_cidrs` and `token_bound_cidrs`: from where to log in and to act (empty: from anywhere).
    `secret_id_ttl` and `secret_id_num_uses`: how long a secret ID lives, and for how many logins (0: without end). Times are seconds.
  EOT
  type = object({
    mount                 = optional(string, "approle")
    create_mount          = optional(bool, false)
    secret_id_bound_cidrs = optional(list(string), [])
    secret_id_ttl         = optional(number, 7776000)
    secret_id_num_uses    = optional(number, 0)
    token_bound_cidrs     = optional(list(string), [])
    token_ttl             = optional(number, 1200)
    token_max_ttl         = optional(number, 86400)
  })
  default = null

  validation {
    condition     = var.approle == null ? true : can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.approle.mount))
    error_message = "approle.mount: it is the path below auth/ and becomes part of URIs; use letters, digits, _ and -, with single slashes between the parts and none at the ends."
  }

  validation {
    condition     = var.approle == null ? true : alltrue([for cidr in concat(var.approle.secret_id_bound_cidrs, var.approle.token_bound_cidrs) : can(cidrhost(cidr, 0))])
    error_message = "approle: secret_id_bound_cidrs and token_bound_cidrs are networks; write each as ADDRESS/BITS, one machine as 192.0.2.7/32."
  }

  validation {
    condition     = var.approle == null ? true : var.approle.token_ttl >= 60 && var.approle.token_ttl <= var.approle.token_max_ttl
    error_message = "approle.token_ttl: a run must be able to end with the token it began with; use 60 seconds or more, and no more than token_max_ttl."
  }

  validation {
    condition     = var.approle == null ? true : var.approle.secret_id_num_uses >= 0 && var.approle.secret_id_ttl >= 0
    error_message = "approle: secret_id_num_uses and secret_id_ttl cannot be negative; 0 means without end."
  }
}

variable "kubernetes" {
  description = <<-EOT
    Roles for pods. `rotator`: the service account that rotates. `readers`: role name → service accounts that read the token, and nothing else;
    the role is called `NAME-reader-KEY`. `audience`: what the pods' tokens must be made for. `mount`: path of the auth method below `auth/`.
    `cluster`: the auth method is made anew for this cluster; where `ca_cert` is null, Vault runs in it and uses its own service account.
  EOT
  type = object({
    mount    = optional(string, "kubernetes")
    audience = optional(string, "vault")
    cluster = optional(object({
      host    = string
      ca_cert = optional(string)
      issuer  = optional(string)
    }))
    rotator = optional(object({
      namespace       = string
      service_account = optional(string, "cmzon-secrets")
    }))
    readers = optional(map(object({
      namespaces       = list(string)
      service_accounts = list(string)
    })), {})
    token_ttl     = optional(number, 1200)
    token_max_ttl = optional(number, 86400)
  })
  default = null

  validation {
    condition     = var.kubernetes == null ? true : can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.kubernetes.mount))
    error_message = "kubernetes.mount: it is the path below auth/ and becomes part of URIs; use letters, digits, _ and -, with single slashes between the parts and none at the ends."
  }

  validation {
    condition     = var.kubernetes == null ? true : length(var.kubernetes.audience) > 0
    error_message = "kubernetes.audience: without one, a token that a pod made for another service would be taken here; name the audience that the pods ask for, as \"vault\"."
  }

  validation {
    condition = var.kubernetes == null ? true : alltrue(flatten([
      for reader in values(var.kubernetes.readers) : [
        length(reader.namespaces) > 0,
        length(reader.service_accounts) > 0,
        !contains(concat(reader.namespaces, reader.service_accounts), "*"),
      ]
    ]))
    error_message = "kubernetes.readers: \"*\" lets every pod read the token; name the namespaces and service accounts of each reader."
  }

  validation {
    condition     = var.kubernetes == null ? true : try(var.kubernetes.rotator.namespace, "") != "*" && try(var.kubernetes.rotator.service_account, "") != "*"
    error_message = "kubernetes.rotator: \"*\" lets every pod rotate and read the admin token; name the one namespace and service account."
  }

  validation {
    condition     = var.kubernetes == null ? true : alltrue([for key in keys(var.kubernetes.readers) : can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", key))])
    error_message = "kubernetes.readers: each key becomes part of the name of a role; use letters a-z, digits and hyphens."
  }

  validation {
    condition     = var.kubernetes == null ? true : startswith(try(var.kubernetes.cluster.host, "https://"), "https://")
    error_message = "kubernetes.cluster.host: Vault sends the pods' tokens there; use the https:// address of the cluster's API."
  }

  validation {
    condition     = var.kubernetes == null ? true : var.kubernetes.token_ttl >= 60 && var.kubernetes.token_ttl <= var.kubernetes.token_max_ttl
    error_message = "kubernetes.token_ttl: a run must be able to end with the token it began with; use 60 seconds or more, and no more than token_max_ttl."
  }
}

variable "transit" {
  description = <<-EOT
    A transit key for sealed files (`file:PATH?key=KEY_URI`). `create_mount` makes the engine at `mount`. `key`: default `name`.
    `auto_rotate_period`: seconds, 0 for never; older versions go on opening what they sealed. `deletion_allowed`: before the key can be destroyed.
  EOT
  type = object({
    mount              = optional(string, "transit")
    create_mount       = optional(bool, false)
    key                = optional(string)
    type               = optional(string, "aes256-gcm96")
    auto_rotate_period = optional(number, 7776000)
    deletion_allowed   = optional(bool, false)
  })
  default = null

  validation {
    condition     = var.transit == null ? true : can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.transit.mount))
    error_message = "transit.mount: it becomes part of policies and URIs; use letters, digits, _ and -, with single slashes between the parts and none at the ends."
  }

  validation {
    condition     = var.transit == null ? true : can(regex("^[A-Za-z0-9_-]+$", coalesce(var.transit.key, var.name)))
    error_message = "transit.key: it becomes part of policies and URIs; use letters, digits, _ and -."
  }

  validation {
    condition     = var.transit == null ? true : contains(["aes256-gcm96", "aes128-gcm96", "chacha20-poly1305"], var.transit.type)
    error_message = "transit.type: sealed files need a key that binds associated data; use \"aes256-gcm96\", \"aes128-gcm96\" or \"chacha20-poly1305\"."
  }

  validation {
    condition     = var.transit == null ? true : var.transit.auto_rotate_period == 0 || var.transit.auto_rotate_period >= 3600
    error_message = "transit.auto_rotate_period: Vault takes an hour or more; use 3600 seconds at least, or 0 for never."
  }
}
