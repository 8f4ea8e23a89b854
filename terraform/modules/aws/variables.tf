# ── what it is called ───────────────────────────────────────────────────────────────────────────

variable "name" {
  description = "The account's name. Tokens are issued under it, and what is made here is called `cmzon-NAME`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,38}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name: it becomes part of the names of a role, a function and a queue. Write 2 to 40 lower-case letters, digits and single dashes, a letter first and no dash last."
  }

  validation {
    condition     = !can(regex("-(admin|pending|transit|reader|rotator|seeder)$", var.name))
    error_message = "name: with this end it would be called as something of another account is: cmzon/X-admin holds the admin token of X. Take another end than -admin, -pending, -transit, -reader, -rotator and -seeder."
  }
}

variable "tags" {
  description = "Tags of everything that can have some."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !contains(keys(var.tags), "cmzon-secrets-promoted-at")
    error_message = "tags: cmzon-secrets-promoted-at is where rotation notes when a token became current. Take it out."
  }
}

variable "permissions_boundary_arn" {
  description = "ARN of the permissions boundary of every role made here."
  type        = string
  default     = null
}

# ── the secret ──────────────────────────────────────────────────────────────────────────────────

variable "secret_name" {
  description = "Name of the secret that holds the token. Default: `cmzon/NAME`."
  type        = string
  default     = null

  validation {
    condition     = var.secret_name == null || can(regex("^[A-Za-z0-9/_+=.@-]{1,506}$", var.secret_name))
    error_message = "secret_name: Secrets Manager takes letters, digits and /_+=.@-, and six of its 512 characters are for -admin. Give the name alone, not an ARN."
  }

  validation {
    condition     = var.secret_name == null || !endswith(coalesce(var.secret_name, "x"), "-admin")
    error_message = "secret_name: NAME-admin holds the admin token of the account whose secret is NAME. Take another end than -admin."
  }
}

variable "recovery_window_in_days" {
  description = "Days in which a destroyed secret can be restored, and its name is taken; 0 deletes at once."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.recovery_window_in_days == 0 || (var.recovery_window_in_days >= 7 && var.recovery_window_in_days <= 30)
    error_message = "recovery_window_in_days: Secrets Manager keeps a deleted secret for 7 to 30 days. Write one of these, or 0 to delete at once, for good."
  }
}

variable "replicas" {
  description = "Regions that get a read-only copy of the token, each with the ARN of a KMS key there; without one, AWS's own key there."
  type        = map(object({ kms_key_arn = optional(string) }))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for region in keys(var.replicas) : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", region))])
    error_message = "replicas: each key is the name of a region, such as eu-west-1."
  }
}

variable "kms_key" {
  description = "A symmetric KMS key of yours, by its ARN, which may be one that is made in the same apply. Default: a key made here, whose policy has what is needed."
  type        = object({ arn = string })
  default     = null

  validation {
    condition     = var.kms_key == null ? true : can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/", var.kms_key.arn))
    error_message = "kms_key: policies name the key itself. Give the ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID), not an alias or an id."
  }
}

variable "kms_deletion_window_in_days" {
  description = "Days in which the deletion of the key can be cancelled after `destroy`."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.kms_deletion_window_in_days >= 7 && var.kms_deletion_window_in_days <= 30
    error_message = "kms_deletion_window_in_days: KMS waits 7 to 30 days. Write one of these."
  }

  validation {
    condition     = var.kms_key != null || var.kms_deletion_window_in_days >= var.recovery_window_in_days
    error_message = "kms_deletion_window_in_days: the key would be gone before the secrets are (recovery_window_in_days), and what is restored without it cannot be read. Write as many days or more."
  }
}

# ── the admin token, with which tokens are issued and revoked ───────────────────────────────────

variable "admin_secret" {
  description = "The secret that holds a token with the scope tokens:manage, where there is one: its ARN, and the ARN of its KMS key where that is another than the token's. Default: an empty secret `SECRET_NAME-admin` is made, to be filled with `cmzon-secrets put` or by `admin_token_wo`."
  type = object({
    arn         = string
    kms_key_arn = optional(string)
  })
  default = null

  validation {
    condition     = var.admin_secret == null ? true : can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:.+-[A-Za-z0-9]{6}$", var.admin_secret.arn))
    error_message = "admin_secret: the policy names this secret and no other. Give its whole ARN, with the six characters at the end."
  }

  validation {
    condition     = try(var.admin_secret.kms_key_arn, null) == null ? true : can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/", var.admin_secret.kms_key_arn))
    error_message = "admin_secret: its policy names the key itself. Give the ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID), not an alias or an id."
  }
}

variable "admin_token_wo" {
  description = "The admin token, sent to Secrets Manager and kept nowhere: neither in the state nor in a plan. Give it as `TF_VAR_…`, or from another ephemeral value. It is sent when `admin_token_wo_version` changes."
  type        = string
  default     = null
  ephemeral   = true
}

variable "admin_token_wo_version" {
  description = "Count it up to send `admin_token_wo`. Not set: Terraform never writes a value, and `cmzon-secrets put` does. Once the token was replaced otherwise, take both out of the root **and** of the pipeline: a later apply may send the old one again."
  type        = number
  default     = null

  validation {
    condition     = var.admin_token_wo_version == null || var.admin_secret == null
    error_message = "admin_token_wo_version: the admin token's secret is one that exists (admin_secret), and is not written here. Give one of the two."
  }
}

# ── who may read, who may rotate ────────────────────────────────────────────────────────────────

variable "readers" {
  description = "Who may assume the role that reads the token and can do nothing else: AWS services (`ecs-tasks.amazonaws.com`), ARNs of roles or users, and service accounts of a Kubernetes cluster by its OIDC provider (`NAMESPACE:NAME`). Empty: no role, and `reader_policy_arn` is for roles of yours."
  type = object({
    services = optional(list(string), [])
    arns     = optional(list(string), [])
    oidc = optional(object({
      provider_arn     = string
      service_accounts = list(string)
    }))
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for service in var.readers.services : can(regex("^[a-z0-9.-]+\\.amazonaws\\.com(\\.cn)?$", service))])
    error_message = "readers: services are written as AWS names them in policies, such as ecs-tasks.amazonaws.com."
  }

  validation {
    condition     = alltrue([for arn in var.readers.arns : can(regex("^arn:[^:]+:(iam|sts)::[0-9]{12}:[^*]+$", arn))])
    error_message = "readers: arns name roles or users of one account, such as arn:aws:iam::123456789012:role/shop. \"*\" would be everybody in every account."
  }

  validation {
    condition     = var.readers.oidc == null ? true : can(regex("^arn:[^:]+:iam::[0-9]{12}:oidc-provider/.+$", var.readers.oidc.provider_arn))
    error_message = "readers: provider_arn is the ARN of the cluster's OIDC provider in IAM, arn:aws:iam::ACCOUNT:oidc-provider/HOST/id/ID, not the URL of its issuer."
  }

  validation {
    condition     = var.readers.oidc == null ? true : length(var.readers.oidc.service_accounts) > 0 && alltrue([for name in var.readers.oidc.service_accounts : can(regex("^[a-z0-9-]+:[a-z0-9.-]+$", name))])
    error_message = "readers: service_accounts are written NAMESPACE:NAME, one or more, without wildcards."
  }
}

variable "rotators" {
  description = "Who besides the function may assume the role that rotates, written as `readers`: a CronJob in EKS, a virtual machine. Needed where `create_function` is false."
  type = object({
    services = optional(list(string), [])
    arns     = optional(list(string), [])
    oidc = optional(object({
      provider_arn     = string
      service_accounts = list(string)
    }))
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for service in var.rotators.services : can(regex("^[a-z0-9.-]+\\.amazonaws\\.com(\\.cn)?$", service))])
    error_message = "rotators: services are written as AWS names them in policies, such as ecs-tasks.amazonaws.com."
  }

  validation {
    condition     = alltrue([for arn in var.rotators.arns : can(regex("^arn:[^:]+:(iam|sts)::[0-9]{12}:[^*]+$", arn))])
    error_message = "rotators: arns name roles or users of one account, such as arn:aws:iam::123456789012:role/shop. \"*\" would be everybody in every account."
  }

  validation {
    condition     = var.rotators.oidc == null ? true : can(regex("^arn:[^:]+:iam::[0-9]{12}:oidc-provider/.+$", var.rotators.oidc.provider_arn))
    error_message = "rotators: provider_arn is the ARN of the cluster's OIDC provider in IAM, arn:aws:iam::ACCOUNT:oidc-provider/HOST/id/ID, not the URL of its issuer."
  }

  validation {
    condition     = var.rotators.oidc == null ? true : length(var.rotators.oidc.service_accounts) > 0 && alltrue([for name in var.rotators.oidc.service_accounts : can(regex("^[a-z0-9-]+:[a-z0-9.-]+$", name))])
    error_message = "rotators: service_accounts are written NAMESPACE:NAME, one or more, without wildcards."
  }
}

# ── how it rotates ──────────────────────────────────────────────────────────────────────────────

variable "rotation" {
  description = "The policy, in the words of `cmzon-secrets.toml`: durations are \"30d\", \"24h\", \"90s\"."
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
    condition     = var.base_url == null || can(regex("^https://[^\\s/?#@]+(/[^\\s?#]*)?$", var.base_url))
    error_message = "base_url: tokens are sent there, so it is https:// and a host, without user, query or fragment."
  }
}

variable "schedule_expression" {
  description = "How often the function looks whether something is due. What it finds decides, so often is cheap; a grace ends at the next look."
  type        = string
  default     = "rate(1 hour)"
  nullable    = false

  validation {
    condition     = can(regex("^(rate\\([1-9][0-9]* (minute|hour|day)s?\\)|cron\\(.+\\))$", var.schedule_expression))
    error_message = "schedule_expression: write rate(1 hour) or cron(0 * * * ? *), as EventBridge Scheduler does."
  }
}

variable "native_rotation_days" {
  description = "Let Secrets Manager begin the rotations itself, so many days apart, beside the schedule. Then leave `rotation.rotate_every` above it."
  type        = number
  default     = null

  validation {
    condition     = var.native_rotation_days == null ? true : var.native_rotation_days >= 1 && var.native_rotation_days <= 1000 && floor(var.native_rotation_days) == var.native_rotation_days && var.create_function
    error_message = "native_rotation_days: Secrets Manager calls the function every 1 to 1000 whole days. Write one of these, and leave create_function true."
  }
}

# ── the function ────────────────────────────────────────────────────────────────────────────────

variable "create_function" {
  description = "false: no function, no schedule, no alarms; whoever is in `rotators` rotates."
  type        = bool
  default     = true
  nullable    = false
}

variable "lambda_zip" {
  description = "Path of the zip that `python -m cmzon_secrets.provisioning.lambda_zip --output PATH` builds. The same input gives the same bytes, so only a change of code is a change here."
  type        = string
  default     = null

  validation {
    condition     = var.lambda_zip == null || can(filebase64sha256(var.lambda_zip))
    error_message = "lambda_zip: there is no such file. Build it with: python -m cmzon_secrets.provisioning.lambda_zip --output ${coalesce(var.lambda_zip, "PATH")}"
  }

  validation {
    condition     = !var.create_function || (var.lambda_zip == null) != (var.lambda_zip_s3 == null)
    error_message = "lambda_zip: the function's code is missing, or given twice. Give lambda_zip, a path, or lambda_zip_s3; or create_function = false."
  }
}

variable "lambda_zip_s3" {
  description = "Where the zip lies in S3, instead of `lambda_zip`; the version makes a new zip a change."
  type = object({
    bucket         = string
    key            = string
    object_version = optional(string)
  })
  default = null
}

variable "code_signing_config_arn" {
  description = "ARN of a code signing configuration. The zip then has to be a signed one in S3."
  type        = string
  default     = null

  validation {
    condition     = var.code_signing_config_arn == null || var.lambda_zip_s3 != null
    error_message = "code_signing_config_arn: AWS signs zips in S3 only. Give lambda_zip_s3."
  }
}

variable "runtime" {
  description = "Runtime of the function. The zip is pure Python and fits each."
  type        = string
  default     = "python3.13"
  nullable    = false

  validation {
    condition     = contains(["python3.11", "python3.12", "python3.13", "python3.14"], var.runtime)
    error_message = "runtime: the zip needs Python 3.11 or newer. Write python3.11 to python3.14."
  }
}

variable "architecture" {
  description = "Processor of the function."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture: Lambda has arm64 and x86_64."
  }
}

variable "memory_size" {
  description = "Megabytes of the function. Lambda gives CPU by memory, and most of a run is starting Python."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.memory_size >= 256 && var.memory_size <= 10240 && floor(var.memory_size) == var.memory_size
    error_message = "memory_size: write 256 to 10240, a whole number. Below 256 MB starting Python takes most of the time limit."
  }
}

variable "timeout" {
  description = "Seconds after which the function is stopped. In the last thirty nothing is begun any more."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.timeout >= 60 && var.timeout <= 900
    error_message = "timeout: write 60 to 900. A rotation asks two services and waits for slow answers."
  }
}

variable "reserved_concurrency" {
  description = "Reserved concurrent executions. -1: none. More than one run at once is wasteful, never wrong, and a new AWS account has too few to reserve any."
  type        = number
  default     = -1
  nullable    = false

  validation {
    condition     = var.reserved_concurrency == -1 || var.reserved_concurrency >= 1
    error_message = "reserved_concurrency: write -1 for none, or 1 and more. 0 would stop rotation."
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
    error_message = "environment: a token, key or passphrase stands there, and would be in the state, in the plan and in the console. Put it into a secret: cmzon-secrets put."
  }

  validation {
    condition     = alltrue([for name in keys(var.environment) : !can(regex("^CMZON_(TOKEN_URI|ADMIN_URI|BASE_URL|ROTATION_.+)$", name))])
    error_message = "environment: an address or a field of the policy stands there, and has an input of its own, with rules of its own: secret_name, admin_secret, base_url, rotation. Use that."
  }
}

# ── the network ─────────────────────────────────────────────────────────────────────────────────

variable "vpc" {
  description = "Subnets and security groups of yours for the function. They need a way to Secrets Manager, KMS and the CMzon API."
  type = object({
    subnet_ids         = set(string)
    security_group_ids = set(string)
  })
  default = null

  validation {
    condition     = var.vpc == null ? true : length(var.vpc.subnet_ids) > 0 && length(var.vpc.security_group_ids) > 0
    error_message = "vpc: a function in a VPC has at least one subnet and one security group. Name them, or leave vpc out."
  }

  validation {
    condition     = var.vpc == null || var.egress == null
    error_message = "vpc: egress makes a network of its own. Give one of the two."
  }
}

variable "egress" {
  description = "Make a small VPC with a NAT gateway, so that the function has one fixed address for CMzon's allowlist: `egress_ips`."
  type = object({
    cidr              = optional(string, "10.78.0.0/26")
    availability_zone = optional(string)
  })
  default = null

  validation {
    condition     = var.egress == null ? true : can(cidrsubnet(var.egress.cidr, 2, 3)) && try(tonumber(split("/", var.egress.cidr)[1]) <= 26, false)
    error_message = "egress: cidr is the range of the new VPC, /26 or larger, such as 10.78.0.0/26."
  }
}

# ── who is told ─────────────────────────────────────────────────────────────────────────────────

variable "create_alarms" {
  description = "Make the alarms of the function, and the topic that tells of them."
  type        = bool
  default     = true
  nullable    = false
}

variable "create_dashboard" {
  description = "Make the dashboard of the function."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_topic_arns" {
  description = "ARNs of SNS topics of yours for the alarms. Default: one is made, encrypted with the key."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[^:]+:sns:[^:]+:[0-9]{12}:[^:]+$", arn))])
    error_message = "alarm_topic_arns: write ARNs of topics, such as [\"arn:aws:sns:eu-central-1:123456789012:oncall\"]."
  }
}

variable "alarm_emails" {
  description = "Addresses that the alarms are sent to. Each gets a mail to confirm first."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@\\s]+@[^@\\s]+$", address))])
    error_message = "alarm_emails: write addresses, such as [\"oncall@example.com\"]."
  }

  validation {
    condition     = length(var.alarm_emails) == 0 || length(var.alarm_topic_arns) == 0
    error_message = "alarm_emails: the topic is yours (alarm_topic_arns), and so are its subscriptions. Give one of the two."
  }
}

variable "silent_after_hours" {
  description = "Hours without a run after which the alarm of silence rings: a schedule that is gone makes no errors. More than the schedule's interval, which is not read out of a cron(…)."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.silent_after_hours >= 1 && var.silent_after_hours <= 168 && floor(var.silent_after_hours) == var.silent_after_hours
    error_message = "silent_after_hours: CloudWatch looks back over 1 to 168 whole hours. Write one of these."
  }

  validation {
    condition     = var.silent_after_hours > try(tonumber(regex("^rate\\(([0-9]+) minutes?\\)$", var.schedule_expression)[0]) / 60, tonumber(regex("^rate\\(([0-9]+) hours?\\)$", var.schedule_expression)[0]), 24 * tonumber(regex("^rate\\(([0-9]+) days?\\)$", var.schedule_expression)[0]), 0)
    error_message = "silent_after_hours: the schedule runs less often than that (schedule_expression), and every pause would ring. Write more hours, or look more often."
  }
}

variable "log_retention_in_days" {
  description = "Days the function's log is kept: who rotated what, and when. It holds no token."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_in_days)
    error_message = "log_retention_in_days: CloudWatch Logs knows 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 and 3653."
  }
}

variable "create_emergency_topic" {
  description = "Make an SNS topic whose messages are orders to the function, such as {\"revoke\": TOKEN_ID}: kills a leaked token. Whoever may publish there can rotate and revoke, though not read a token."
  type        = bool
  default     = false
  nullable    = false
}

variable "emergency_rule_arns" {
  description = "ARNs of EventBridge rules of yours that may invoke the function with an order as their input: for what watches for leaks. The rule's target is `function_arn`."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.emergency_rule_arns : can(regex("^arn:[^:]+:events:[^:]+:[0-9]{12}:rule/[^*?]+$", arn))])
    error_message = "emergency_rule_arns: write ARNs of single rules, such as arn:aws:events:eu-central-1:123456789012:rule/leaked."
  }
}
