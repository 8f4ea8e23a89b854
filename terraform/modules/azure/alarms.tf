# What needs somebody: runs that failed, an account that needs a person, and silence.

locals {
  create_alarms   = var.create_function && var.create_alarms
  action_group_id = var.action_group == null ? one(azurerm_monitor_action_group.alarms[*].id) : var.action_group.id

  alarms = {
    failed = {
      description = "Twice in two hours a rotation of ${var.name} failed. Application Insights ${local.prefix} says why; the token in use is untouched, and the next run tries again."
      query       = "requests | where name == \"rotate\" and success == false"
      window      = "PT2H"
      operator    = "GreaterThan"
      threshold   = 1
      severity    = 2
    }
    attention = {
      description = "The rotation of ${var.name} needs a person. Application Insights ${local.prefix} says for what, and how it is mended."
      query       = "traces | extend r = parse_json(message) | where tostring(r.item.state) == \"attention\""
      window      = "PT2H" # longer than an hour, so that no run falls between two looks
      operator    = "GreaterThan"
      threshold   = 0
      severity    = 1
    }
    silent = {
      description = "The rotation of ${var.name} has not run for ${var.silent_after_hours} hours. Look at the function ${local.function_name}: was it deployed, and is it enabled?"
      query       = "requests | where name == \"rotate\""
      window      = var.silent_after_hours < 24 ? "PT${var.silent_after_hours}H" : "P${floor(var.silent_after_hours / 24)}D"
      operator    = "LessThan"
      threshold   = 1
      severity    = 1
    }
  }
}

resource "azurerm_monitor_action_group" "alarms" {
  count = local.create_alarms && var.action_group == null ? 1 : 0

  name                = "${local.prefix}-alarms"
  resource_group_name = var.resource_group_name
  short_name          = trimsuffix(substr(local.prefix, 0, 12), "-")
  tags                = var.tags

  dynamic "email_receiver" {
    for_each = var.alarm_emails

    content {
      name                    = email_receiver.value
      email_address           = email_receiver.value
      use_common_alert_schema = true
    }
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "this" {
  for_each = local.create_alarms ? local.alarms : {}

  name                    = "${local.prefix}-${each.key}"
  display_name            = "${local.prefix} ${each.key}"
  description             = each.value.description
  resource_group_name     = var.resource_group_name
  location                = var.location
  scopes                  = [azurerm_application_insights.function[0].id]
  severity                = each.value.severity
  evaluation_frequency    = "PT30M"
  window_duration         = each.value.window
  auto_mitigation_enabled = true
  skip_query_validation   = true # a new component has no tables yet
  tags                    = var.tags

  criteria {
    query                   = each.value.query
    time_aggregation_method = "Count"
    operator                = each.value.operator
    threshold               = each.value.threshold

    failing_periods {
      number_of_evaluation_periods             = 1
      minimum_failing_periods_to_trigger_alert = 1
    }
  }

  action {
    action_groups = [local.action_group_id]
  }
}
