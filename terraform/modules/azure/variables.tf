# ── what it is called ───────────────────────────────────────────────────────────────────────────

variable "name" {
  description = "The account's name. Tokens are issued under it, and what is made here is called `cmzon-NAME`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,38}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name: it becomes part of the names of a vault, a function and a storage account. Write 2 to 40 lower-case letters, digits and single dashes, a letter first and no dash last."
  }

  validation {
    condition     = !can(regex("-(admin|pending|transit|reader|rotator|seeder)$", var.name))
    error_message = "name: with -admin, -pending, -transit, -reader, -rotator or -seeder at its end, what is made here would be called as what belongs to the account without it, and could open its tokens. Choose another end."
  }
}

variable "resource_group_name" {
  description = "Name of the resource group for all that is made here."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_()-][A-Za-z0-9_().-]{0,88}[A-Za-z0-9_()-]$|^[A-Za-z0-9_()-]$", var.resource_group_name))
    error_message = "resource_group_name: give the name alone, not an id: letters, digits and _().-, no dot last."
  }
}

variable "location" {
  description = "Region of all that is made here, such as `westeurope`."
  type        = string
}

variable "tags" {
  description = "Tags of everything that can have some."
  type        = map(string)
  default     = {}
  nullable    = false
}

# ── the vault and the secret ────────────────────────────────────────────────────────────────────

variable "key_vault" {
  description = "A vault of yours, by its id; it authorises by roles (RBAC), and its firewall lets the function's subnet in. Default: one is made. An object, so that the vault may be made in the same apply."
  type        = object({ id = string })
  default     = null

  validation {
    condition     = var.key_vault == null ? true : can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.KeyVault/vaults/[^/]+$", var.key_vault.id))
    error_message = "key_vault: roles are assigned below the vault, so write its whole id: { id = \"/subscriptions/…/resourceGroups/…/providers/Microsoft.KeyVault/vaults/NAME\" }."
  }
}

variable "key_vault_name" {
  description = "Name of the vault that is made. Default: `cmzon-NAME-` and six characters, for it has to be the only one in the world."
  type        = string
  default     = null

  validation {
    condition     = var.key_vault_name == null ? true : can(regex("^[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]$", var.key_vault_name)) && !strcontains(var.key_vault_name, "--")
    error_message = "key_vault_name: Azure takes 3 to 24 letters, digits and single dashes, a letter first and no dash last."
  }

  validation {
    condition     = var.key_vault_name == null || var.key_vault == null
    error_message = "key_vault_name: the vault is one that exists (key_vault), and is not made here. Give one of the two."
  }
}

variable "key_vault_sku" {
  description = "`standard`, or `premium` where your rules want keys in an HSM. Secrets are the same in both."
  type        = string
  default     = "standard"
  nullable    = false

  validation {
    condition     = contains(["standard", "premium"], var.key_vault_sku)
    error_message = "key_vault_sku: Azure has standard and premium."
  }
}

variable "key_vault_domain" {
  description = "Domain of Key Vault in your cloud: `vault.azure.net`, `vault.azure.cn` or `vault.usgovcloudapi.net`."
  type        = string
  default     = "vault.azure.net"
  nullable    = false

  validation {
    condition     = contains(["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net"], var.key_vault_domain)
    error_message = "key_vault_domain: Azure's clouds have vault.azure.net, vault.azure.cn and vault.usgovcloudapi.net."
  }
}

variable "soft_delete_retention_days" {
  description = "Days in which a deleted vault or secret can be recovered, and its name is taken. It cannot be changed later."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.soft_delete_retention_days >= 7 && var.soft_delete_retention_days <= 90
    error_message = "soft_delete_retention_days: Key Vault keeps what was deleted for 7 to 90 days. Write one of these."
  }
}

variable "purge_protection_enabled" {
  description = "Nobody, not even an owner, can delete the vault for good before `soft_delete_retention_days` are over. It cannot be switched off again; false is for vaults of tests."
  type        = bool
  default     = true
  nullable    = false
}

variable "public_network_access_enabled" {
  description = "false: the vault that is made has private endpoints alone, and they are yours to make. Then give `subnet` one from which they are reached."
  type        = bool
  default     = true
  nullable    = false
}

variable "allowed_cidrs" {
  description = "Public addresses and ranges of the people and pipelines that fill the secrets and deploy the function: the vault's firewall and the function's deployment site let them in, and nobody else. Who they are is asked besides."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.allowed_cidrs : can(cidrnetmask(strcontains(address, "/") ? address : "${address}/32"))])
    error_message = "allowed_cidrs: write IPv4 addresses or ranges, such as [\"203.0.113.7\", \"198.51.100.0/24\"]. Azure's firewalls of this kind know no IPv6."
  }

  validation {
    condition     = alltrue([for address in var.allowed_cidrs : !can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|0\\.)", address))])
    error_message = "allowed_cidrs: a firewall of Azure sees public addresses only, and refuses private ones. Write the address behind which you are, or give the subnet in allowed_subnet_ids."
  }
}

variable "allowed_subnet_ids" {
  description = "Ids of subnets whose applications read the token, such as the nodes of a cluster. Each needs the service endpoint Microsoft.KeyVault."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.allowed_subnet_ids : can(regex("^/subscriptions/.+/virtualNetworks/[^/]+/subnets/[^/]+$", id))])
    error_message = "allowed_subnet_ids: write whole ids, /subscriptions/…/virtualNetworks/NAME/subnets/NAME."
  }
}

variable "secret_name" {
  description = "Name of the secret that holds the token. Default: `cmzon-NAME`. Beside it there is `SECRET_NAME-pending`."
  type        = string
  default     = null

  validation {
    condition     = var.secret_name == null ? true : can(regex("^[A-Za-z0-9-]{1,113}$", var.secret_name))
    error_message = "secret_name: Key Vault takes letters, digits and dashes. Write at most 113 of these."
  }

  validation {
    condition     = var.secret_name == null ? true : !can(regex("-(admin|pending)$", lower(var.secret_name)))
    error_message = "secret_name: with -admin at its end it is where another account's admin token is by default, with -pending where its next token is staged. Choose another end."
  }
}

# ── the admin token, with which tokens are issued and revoked ───────────────────────────────────

variable "admin_secret" {
  description = "The secret that holds a token with the scope tokens:manage, where there is one, by its id below a vault that authorises by roles. Default: `SECRET_NAME-admin` in the vault of the token, to be filled with `cmzon-secrets put` or by `admin_token_wo`."
  type        = object({ id = string })
  default     = null

  validation {
    condition     = var.admin_secret == null ? true : can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.KeyVault/vaults/[^/]+/secrets/[A-Za-z0-9-]+$", var.admin_secret.id))
    error_message = "admin_secret: a role is assigned on this secret and no other, so write its id without a version: { id = \"/subscriptions/…/Microsoft.KeyVault/vaults/VAULT/secrets/NAME\" }."
  }
}

variable "admin_token_wo" {
  description = "The admin token, sent to Key Vault and kept nowhere: neither in the state nor in a plan. Give it as `TF_VAR_…`, or from another ephemeral value. It is sent when `admin_token_wo_version` changes. Terraform then has to reach the vault (`allowed_cidrs`) and be one of the `operators`."
  type        = string
  default     = null
  ephemeral   = true
}

variable "admin_token_wo_version" {
  description = "Count it up to send `admin_token_wo`. Not set: Terraform never writes a value, and `cmzon-secrets put` does. Set and taken out again: the secret is deleted."
  type        = number
  default     = null

  validation {
    condition     = var.admin_token_wo_version == null || var.admin_secret == null
    error_message = "admin_token_wo_version: the admin token's secret is one that exists (admin_secret), and is not written here. Give one of the two."
  }
}

# ── who may read, who may rotate ────────────────────────────────────────────────────────────────

variable "readers" {
  description = "Who reads the token and can do nothing else: object ids of identities and groups, each under a name of your choice, and service accounts of a Kubernetes cluster by its OIDC issuer (`NAMESPACE:NAME`), for which an identity is made."
  type = object({
    principal_ids = optional(map(string), {})
    oidc = optional(object({
      issuer_url       = string
      service_accounts = set(string)
    }))
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for id in values(var.readers.principal_ids) : can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", id))])
    error_message = "readers: principal_ids are object ids (principal_id of an identity), written { web = \"00000000-0000-0000-0000-000000000000\" }. An application's client id is another one."
  }

  validation {
    condition     = var.readers.oidc == null ? true : length(var.readers.oidc.service_accounts) > 0 && alltrue([for name in var.readers.oidc.service_accounts : can(regex("^[a-z0-9-]+:[a-z0-9.-]+$", name))])
    error_message = "readers: service_accounts are written NAMESPACE:NAME, one or more, without wildcards."
  }

  validation {
    condition     = var.readers.oidc == null ? true : startswith(var.readers.oidc.issuer_url, "https://")
    error_message = "readers: issuer_url is the cluster's, https://…, as oidc_issuer_url of azurerm_kubernetes_cluster gives it."
  }
}

variable "rotators" {
  description = "Who besides the function rotates the token, written as `readers`: a CronJob in AKS, a virtual machine. Needed where `create_function` is false."
  type = object({
    principal_ids = optional(map(string), {})
    oidc = optional(object({
      issuer_url       = string
      service_accounts = set(string)
    }))
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for id in values(var.rotators.principal_ids) : can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", id))])
    error_message = "rotators: principal_ids are object ids (principal_id of an identity), written { vm = \"00000000-0000-0000-0000-000000000000\" }. An application's client id is another one."
  }

  validation {
    condition     = var.rotators.oidc == null ? true : length(var.rotators.oidc.service_accounts) > 0 && alltrue([for name in var.rotators.oidc.service_accounts : can(regex("^[a-z0-9-]+:[a-z0-9.-]+$", name))])
    error_message = "rotators: service_accounts are written NAMESPACE:NAME, one or more, without wildcards."
  }

  validation {
    condition     = var.rotators.oidc == null ? true : startswith(var.rotators.oidc.issuer_url, "https://")
    error_message = "rotators: issuer_url is the cluster's, https://…, as oidc_issuer_url of azurerm_kubernetes_cluster gives it."
  }
}

variable "operators" {
  description = "People who fill the secrets and look after them with `cmzon-secrets` on their own machine: object ids of groups or users, each under a name of your choice. They may rotate, and write the admin token, and delete nothing."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for id in values(var.operators) : can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", id))])
    error_message = "operators: write object ids, such as { platform = \"00000000-0000-0000-0000-000000000000\" }. For yourself: az ad signed-in-user show --query id."
  }
}

variable "role_definition_ids" {
  description = "The two roles, where there are some: those of the first use of this module, for a tenant has room for some thousand custom roles. Default: they are made."
  type        = object({ reader = string, rotator = string })
  default     = null

  validation {
    condition     = var.role_definition_ids == null ? true : alltrue([for id in values(var.role_definition_ids) : can(regex("/providers/Microsoft\\.Authorization/roleDefinitions/[^/|]+$", id))])
    error_message = "role_definition_ids: write the ids as the outputs reader_role_definition_id and rotator_role_definition_id give them."
  }
}

# ── how it rotates ──────────────────────────────────────────────────────────────────────────────

variable "rotation" {
  description = "The policy, in the words of `cmzon-secrets.toml`: durations are \"30d\", \"24h\", \"90s\". When it looks is in the function's code: each hour."
  type = object({
    rotate_every     = optional(string, "30d")
    grace            = optional(string, "24h")
    scopes           = optional(list(string), ["messages:send"])
    expires_in       = optional(string)
    renew_before     = optional(string)
    reader_ttl       = optional(string, "5m")
    request_deadline = optional(string, "60s")
    revoke_limit     = optional(string, "7d")
    orphan_age       = optional(string, "1h")
    allowed_ips      = optional(list(string), [])
  })
  default  = {}
  nullable = false

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
    condition     = var.base_url == null || can(regex("^https://[^\\s/?#@'\"$`\\\\]+(/[^\\s?#'\"$`\\\\]*)?$", var.base_url))
    error_message = "base_url: tokens are sent there, and it becomes part of a command. Write https:// and a host, without user, query, fragment, quotes, $ and `."
  }
}

# ── the function ────────────────────────────────────────────────────────────────────────────────

variable "create_function" {
  description = "false: no function, no network, no alarms; whoever is in `rotators` rotates."
  type        = bool
  default     = true
  nullable    = false

  validation {
    condition     = var.create_function || length(var.rotators.principal_ids) > 0 || var.rotators.oidc != null
    error_message = "create_function: it is false and rotators is empty, so nobody would rotate the token. Name who does in rotators."
  }
}

variable "function_zip" {
  description = "Path of the zip that holds the function and all it needs; see Deploy. Each new content is deployed with `az`, which has to be there and logged in. Default: you deploy it, with the command in `first_steps`."
  type        = string
  default     = null

  validation {
    condition     = var.function_zip == null || can(filesha256(var.function_zip))
    error_message = "function_zip: there is no such file. Build it as the README says under Deploy, or leave it out and deploy later."
  }

  validation {
    condition     = var.function_zip == null || !can(regex("[\"$`%\\\\]", var.function_zip))
    error_message = "function_zip: the path becomes part of a command. Write it without quotes, $, ` and %, and with / between folders."
  }
}

variable "plan_sku" {
  description = "Size of the App Service plan. The smallest is enough; a job of seconds runs on it once an hour."
  type        = string
  default     = "B1"
  nullable    = false

  validation {
    condition     = can(regex("^(B[1-3]|S[1-3]|P[0-5]m?v[2-4]|I[1-6]m?v2)$", var.plan_sku))
    error_message = "plan_sku: write a dedicated size, such as B1, S1 or P0v3. Consumption (Y1, FC1) and Elastic Premium (EP1) want a storage key in the state or change in every plan; see the README."
  }
}

variable "python_version" {
  description = "Python of the function. Build `function_zip` for the same."
  type        = string
  default     = "3.12"
  nullable    = false

  validation {
    condition     = contains(["3.11", "3.12", "3.13"], var.python_version)
    error_message = "python_version: write 3.11, 3.12 or 3.13."
  }
}

variable "environment" {
  description = "More settings of the function, such as CMZON_CA. No secret belongs there, and nothing that has an input of its own."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.environment) : startswith(name, "CMZON_")])
    error_message = "environment: only settings that begin with CMZON_ are read."
  }

  validation {
    condition     = length(setintersection(keys(var.environment), ["CMZON_API_TOKEN", "CMZON_SECRETS_KEY", "CMZON_SECRETS_PASSPHRASE"])) == 0 && !anytrue([for value in values(var.environment) : startswith(value, "cmz_")])
    error_message = "environment: a token, key or passphrase stands there, and would be in the state, in the plan and in the portal. Put it into a secret: cmzon-secrets put."
  }

  validation {
    condition     = alltrue([for name in keys(var.environment) : !can(regex("^CMZON_(TOKEN_URI|ADMIN_URI|BASE_URL|ROTATION_.+)$", name))])
    error_message = "environment: an address or a field of the policy stands there, and has an input of its own, with rules of its own: secret_name, admin_secret, base_url, rotation. Use that."
  }
}

# ── the network ─────────────────────────────────────────────────────────────────────────────────

variable "subnet" {
  description = "A subnet of yours for the function, by its id: delegated to Microsoft.Web/serverFarms, used by no other plan, with the service endpoints Microsoft.KeyVault and Microsoft.Storage and a way to the CMzon API. Default: a small network is made."
  type        = object({ id = string })
  default     = null

  validation {
    condition     = var.subnet == null ? true : can(regex("^/subscriptions/.+/virtualNetworks/[^/]+/subnets/[^/]+$", var.subnet.id))
    error_message = "subnet: write its whole id, { id = \"/subscriptions/…/virtualNetworks/NAME/subnets/NAME\" }."
  }
}

variable "network_cidr" {
  description = "Range of the network that is made. It is joined to no other, so it may overlap."
  type        = string
  default     = "10.78.0.0/26"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.network_cidr)) && try(tonumber(split("/", var.network_cidr)[1]) <= 27, false)
    error_message = "network_cidr: a plan wants a subnet of /27 or larger, such as 10.78.0.0/26."
  }
}

variable "egress" {
  description = "Make a NAT gateway, so that the function has one fixed address for CMzon's allowlist: `egress_ips`."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.egress || (var.subnet == null && var.create_function)
    error_message = "egress: the NAT gateway belongs to the network that is made for the function. Leave subnet out and create_function true, or make one for your subnet yourself."
  }
}

# ── who is told ─────────────────────────────────────────────────────────────────────────────────

variable "create_alarms" {
  description = "Make the alarms of the function, and the action group that tells of them."
  type        = bool
  default     = true
  nullable    = false
}

variable "action_group" {
  description = "An action group of yours for the alarms, by its id. Default: one is made."
  type        = object({ id = string })
  default     = null

  validation {
    condition     = var.action_group == null ? true : can(regex("(?i)^/subscriptions/.+/actionGroups/[^/]+$", var.action_group.id))
    error_message = "action_group: write its whole id, { id = \"/subscriptions/…/actionGroups/NAME\" }."
  }
}

variable "alarm_emails" {
  description = "Addresses that the alarms are sent to."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@\\s]+@[^@\\s]+$", address))])
    error_message = "alarm_emails: write addresses, such as [\"oncall@example.com\"]."
  }

  validation {
    condition     = length(var.alarm_emails) == 0 || var.action_group == null
    error_message = "alarm_emails: the action group is yours (action_group), and so are its receivers. Give one of the two."
  }
}

variable "silent_after_hours" {
  description = "Hours without a run after which the alarm of silence rings: a function that is gone makes no errors."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = contains([2, 3, 4, 5, 6, 24, 48], var.silent_after_hours)
    error_message = "silent_after_hours: Azure Monitor looks back over 2, 3, 4, 5, 6, 24 or 48 hours. Write one of these."
  }
}

variable "log_analytics_workspace" {
  description = "A Log Analytics workspace of yours, by its id. Default: one is made."
  type        = object({ id = string })
  default     = null

  validation {
    condition     = var.log_analytics_workspace == null ? true : can(regex("(?i)^/subscriptions/.+/providers/Microsoft\\.OperationalInsights/workspaces/[^/]+$", var.log_analytics_workspace.id))
    error_message = "log_analytics_workspace: write its whole id, { id = \"/subscriptions/…/workspaces/NAME\" }; the workspace's own GUID is another one."
  }
}

variable "log_retention_in_days" {
  description = "Days the workspace that is made keeps its logs: what was rotated, and who read which secret. They hold no token."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = var.log_retention_in_days >= 30 && var.log_retention_in_days <= 730
    error_message = "log_retention_in_days: Log Analytics keeps 30 to 730 days. Write one of these."
  }
}
