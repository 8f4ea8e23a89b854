# ── what it is called ───────────────────────────────────────────────────────────────────────────

variable "name" {
  description = "The account's name. Tokens are issued under it, and policies and roles made here are called `MOUNT-NAME-…`, with - for the slashes of MOUNT."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,38}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name: it becomes part of the names of policies and roles, which Vault keeps in lower case. Write 2 to 40 lower-case letters, digits and single dashes, a letter first and no dash last."
  }

  validation {
    condition     = !can(regex("-(admin|pending|transit|reader|rotator|seeder)$", var.name))
    error_message = "name: with -admin, -pending, -transit, -reader, -rotator or -seeder at its end, what is made here would be called as what belongs to the account without it, and could open its tokens. Choose another end."
  }
}

# ── the secret ──────────────────────────────────────────────────────────────────────────────────

variable "mount" {
  description = "Where the KV engine, version 2, is mounted."
  type        = string
  default     = "cmzon"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.mount))
    error_message = "mount: it becomes part of policies and URIs. Write letters, digits, _ and -, with single slashes between parts and none at the ends."
  }
}

variable "create_mount" {
  description = "Make the engine, with the next two settings. false: there is one at `mount`, whose settings are left as they are."
  type        = bool
  default     = true
}

variable "max_versions" {
  description = "Versions that the engine keeps of each secret. A rotation writes three."
  type        = number
  default     = 4

  validation {
    condition     = var.max_versions >= 1 && var.max_versions <= 100 && floor(var.max_versions) == var.max_versions
    error_message = "max_versions: each version holds tokens that were replaced, and 0 means ten to Vault. Write a whole number from 1 to 100."
  }
}

variable "cas_required" {
  description = "The engine refuses a write that does not say which version it replaces. cmzon-secrets always says it; by hand it is `vault kv put -cas=VERSION`."
  type        = bool
  default     = true
}

variable "path" {
  description = "The secret that holds the token, within the mount. Default: NAME."
  type        = string
  default     = null

  validation {
    condition     = var.path == null ? true : can(regex("^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$", var.path)) && !endswith(var.path, ".rotation")
    error_message = "path: it becomes part of policies and URIs, and what ends in .rotation is the other half of a secret. Write letters, digits, ., _ and -, with single slashes between parts, and choose another end."
  }

  validation {
    condition     = var.path == null ? true : !endswith(var.path, "-admin")
    error_message = "path: what ends in -admin is where another account's admin token is by default, and readers would get it. Choose another end."
  }
}

variable "layout" {
  description = "How the stages are stored: `single`, all in one secret, or `split`, where readers cannot see PENDING and PREVIOUS."
  type        = string
  default     = "single"

  validation {
    condition     = contains(["single", "split"], var.layout)
    error_message = "layout: the store knows two. Write \"single\" or \"split\"."
  }
}

# ── the admin token, with which tokens are issued and revoked ───────────────────────────────────

variable "admin_path" {
  description = "The secret within the mount that holds a token with the scope tokens:manage. Several accounts may name the same one. Default: `PATH-admin`."
  type        = string
  default     = null

  validation {
    condition     = var.admin_path == null ? true : can(regex("^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$", var.admin_path)) && !endswith(var.admin_path, ".rotation")
    error_message = "admin_path: it becomes part of policies and URIs. Write letters, digits, ., _ and -, with single slashes between parts, and another end than .rotation."
  }

  validation {
    condition     = var.admin_path == null ? true : var.admin_path != coalesce(var.path, var.name)
    error_message = "admin_path: whoever may read the token could read the admin token with it. Name another secret than path."
  }
}

# ── who may read, who may rotate ────────────────────────────────────────────────────────────────

variable "readers" {
  description = "Kubernetes service accounts (`NAMESPACE:NAME`) that read the token and can do nothing else. Each namespace gets a role, `MOUNT-NAME-reader-NAMESPACE`. Empty: no role, and the policy is for roles of yours."
  type = object({
    service_accounts = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = alltrue([for account in var.readers.service_accounts : can(regex("^[a-z0-9-]+:[a-z0-9.-]+$", account))])
    error_message = "readers: service_accounts are written NAMESPACE:NAME, without wildcards."
  }
}

variable "rotators" {
  description = "Kubernetes service accounts (`NAMESPACE:NAME`, all of one namespace) that rotate the token, as `MOUNT-NAME-rotator`. A rotator elsewhere has an AppRole: `approle`."
  type = object({
    service_accounts = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = alltrue([for account in var.rotators.service_accounts : can(regex("^[a-z0-9-]+:[a-z0-9.-]+$", account))])
    error_message = "rotators: service_accounts are written NAMESPACE:NAME, without wildcards."
  }

  validation {
    condition     = length(distinct([for account in var.rotators.service_accounts : split(":", account)[0]])) <= 1
    error_message = "rotators: a role lets each of its names in from each of its namespaces. Name service accounts of one namespace."
  }
}

variable "approle" {
  description = "An AppRole for a rotator outside Kubernetes, `MOUNT-NAME-rotator`. Times are seconds; 0 means without end. It makes no secret ID: `first_steps` says how to get one."
  type = object({
    mount                 = optional(string, "approle") # below auth/
    create_mount          = optional(bool, false)
    secret_id_ttl         = optional(number, 7776000) # 90 days
    secret_id_num_uses    = optional(number, 0)       # every run logs in
    secret_id_bound_cidrs = optional(set(string), []) # from where to log in; empty: anywhere
    token_bound_cidrs     = optional(set(string), []) # from where to use what a login gave
    token_ttl             = optional(number, 1200)
    token_max_ttl         = optional(number, 86400)
  })
  default = null

  validation {
    condition     = var.approle == null ? true : can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.approle.mount))
    error_message = "approle: mount is the path below auth/ and becomes part of URIs. Write letters, digits, _ and -, with single slashes between parts and none at the ends."
  }

  validation {
    condition     = var.approle == null ? true : alltrue([for range in setunion(var.approle.secret_id_bound_cidrs, var.approle.token_bound_cidrs) : can(cidrhost(range, 0))])
    error_message = "approle: bound CIDRs are ranges. Write \"203.0.113.0/24\", and one machine as \"203.0.113.7/32\"."
  }

  validation {
    condition     = var.approle == null ? true : var.approle.secret_id_ttl >= 0 && var.approle.secret_id_num_uses >= 0
    error_message = "approle: secret_id_ttl and secret_id_num_uses cannot be negative. Write 0 for without end."
  }

  validation {
    condition     = var.approle == null ? true : var.approle.token_ttl >= 60 && var.approle.token_ttl <= var.approle.token_max_ttl
    error_message = "approle: a run ends with the login it began with. Write a token_ttl of 60 and more, not above token_max_ttl."
  }
}

variable "kubernetes" {
  description = "The auth method of the cluster, for `readers` and `rotators`. Default: there is one at `auth/kubernetes`. With `cluster` it is made; without `ca_cert`, Vault runs in that cluster."
  type = object({
    mount         = optional(string, "kubernetes") # below auth/
    audience      = optional(string, "vault")      # what the pods' tokens are made for
    token_ttl     = optional(number, 1200)
    token_max_ttl = optional(number, 86400)
    cluster = optional(object({
      host    = string           # https://… of its API
      ca_cert = optional(string) # PEM
    }))
  })
  default = {}

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.kubernetes.mount))
    error_message = "kubernetes: mount is the path below auth/ and becomes part of URIs. Write letters, digits, _ and -, with single slashes between parts and none at the ends."
  }

  validation {
    condition     = length(var.kubernetes.audience) > 0
    error_message = "kubernetes: without an audience, a token that a pod made for another service would be taken here. Write the one the pods ask for, such as \"vault\"."
  }

  validation {
    condition     = var.kubernetes.token_ttl >= 60 && var.kubernetes.token_ttl <= var.kubernetes.token_max_ttl
    error_message = "kubernetes: a run ends with the login it began with. Write a token_ttl of 60 and more, not above token_max_ttl."
  }

  validation {
    condition     = var.kubernetes.cluster == null ? true : startswith(var.kubernetes.cluster.host, "https://")
    error_message = "kubernetes: Vault sends the pods' tokens to cluster.host. Write the https:// address of the cluster's API."
  }
}

# ── a key for sealed files ──────────────────────────────────────────────────────────────────────

variable "transit" {
  description = "A transit key for sealed files (`file:PATH?key=KEY_URI`), which the rotator may use. Its older versions go on opening what they sealed."
  type = object({
    mount              = optional(string, "transit")
    create_mount       = optional(bool, false)
    key                = optional(string) # default: NAME
    type               = optional(string, "aes256-gcm96")
    auto_rotate_period = optional(number, 7776000) # seconds, 90 days; 0: never
    deletion_allowed   = optional(bool, false)     # to be applied before the key can be destroyed
  })
  default = null

  validation {
    condition     = var.transit == null ? true : can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.transit.mount)) && can(regex("^[A-Za-z0-9_-]+$", coalesce(var.transit.key, "default")))
    error_message = "transit: mount and key become part of policies and URIs. Write letters, digits, _ and -, and slashes in the mount alone."
  }

  validation {
    condition     = var.transit == null ? true : contains(["aes256-gcm96", "aes128-gcm96", "chacha20-poly1305"], var.transit.type)
    error_message = "transit: a sealed file's key must bind associated data. Write the type \"aes256-gcm96\", \"aes128-gcm96\" or \"chacha20-poly1305\"."
  }

  validation {
    condition     = var.transit == null ? true : var.transit.auto_rotate_period == 0 || var.transit.auto_rotate_period >= 3600
    error_message = "transit: Vault rotates a key once an hour at most. Write an auto_rotate_period of 3600 and more, or 0 for never."
  }
}

# ── how it rotates ──────────────────────────────────────────────────────────────────────────────

variable "rotation" {
  description = "The policy, in the words of `cmzon-secrets.toml`; what is not set is as the program has it. Durations are \"30d\", \"24h\", \"90s\"."
  type = object({
    rotate_every     = optional(string, "30d")
    grace            = optional(string, "24h")
    scopes           = optional(list(string), ["messages:send"])
    expires_in       = optional(string)
    renew_before     = optional(string)
    reader_ttl       = optional(string)
    request_deadline = optional(string)
    revoke_limit     = optional(string)
    orphan_age       = optional(string)
    allowed_ips      = optional(list(string), [])
  })
  default = {}

  validation {
    condition = alltrue([
      for field, value in var.rotation :
      contains(["scopes", "allowed_ips"], field) || value == null || can(regex("^[1-9][0-9]*[smhd]$", value))
    ])
    error_message = "rotation: no duration: ${join(", ", [
      for field, value in var.rotation : field
      if !(contains(["scopes", "allowed_ips"], field) || value == null || can(regex("^[1-9][0-9]*[smhd]$", value)))
    ])}. Write a whole number and a unit: \"90s\", \"15m\", \"24h\", \"30d\"."
  }

  validation {
    condition     = length(var.rotation.scopes) > 0 && length(distinct(var.rotation.scopes)) == length(var.rotation.scopes) && alltrue([for scope in var.rotation.scopes : can(regex("^[\\x21\\x23-\\x2b\\x2d-\\x5b\\x5d-\\x7e]+$", scope))])
    error_message = "rotation: scopes is a list of one or more words, each once and in ASCII, such as [\"messages:send\"]."
  }

  validation {
    condition = alltrue([
      for address in var.rotation.allowed_ips :
      try(cidrhost(strcontains(address, "/") ? address : "${address}${strcontains(address, ":") ? "/128" : "/32"}", 0)
      == cidrhost("${split("/", address)[0]}${strcontains(address, ":") ? "/128" : "/32"}", 0), false)
    ])
    error_message = "rotation: allowed_ips holds addresses or ranges, such as \"203.0.113.7\" or \"203.0.113.0/24\". A range is written with its first address."
  }
}

variable "base_url" {
  description = "The CMzon API. Default: the vendor's."
  type        = string
  default     = null

  validation {
    condition     = var.base_url == null || can(regex("^https://[^\\s/?#@]+(/[^\\s?#]*)?$", var.base_url))
    error_message = "base_url: tokens are sent there, so it is https:// and a host, without user, query or fragment."
  }
}

variable "address" {
  description = "Vault as the rotator and the readers reach it, for the outputs. Terraform itself goes where the provider says."
  type        = string
  default     = null

  validation {
    condition     = var.address == null || can(regex("^(https://[^\\s/?#@]+|http://(localhost|127(\\.[0-9]{1,3}){3}|\\[::1\\])(:[0-9]+)?)$", var.address))
    error_message = "address: tokens are sent there. Write https:// and a host, with a port where it needs one, and nothing behind it. http:// is for a server on the same machine: http://127.0.0.1:8200."
  }
}

variable "namespace" {
  description = "Vault's namespace for the rotator and the readers, for the outputs: the `namespace` of the provider, where that has one."
  type        = string
  default     = null
}
