# What needs somebody: a run that failed, an account that needs a person, silence, and what nobody
# could deliver.

locals {
  create_alarms    = var.create_function && var.create_alarms
  alarm_topic_arns = concat(aws_sns_topic.alarms[*].arn, var.alarm_topic_arns)

  alarms = { # each rings above 0, or below what it has at least
    failed = {
      description = "Two hours in a row a rotation of ${var.name} failed. The log ${local.log_group_name} says why; the token in use is untouched, and the next run tries again."
      namespace   = "AWS/Lambda"
      metric_name = "Errors"
      dimensions  = { FunctionName = local.function_name }
      period      = 3600
      periods     = 2
      at_least    = null
      no_data     = "missing"
    }
    attention = {
      description = "The rotation of ${var.name} needs a person. The log ${local.log_group_name} says for what, and how it is mended."
      namespace   = "cmzon-secrets"
      metric_name = "attention-${var.name}"
      dimensions  = {}
      period      = 3600
      periods     = 1
      at_least    = null
      no_data     = "notBreaching"
    }
    silent = {
      description = "The rotation of ${var.name} has not run for ${var.silent_after_hours} hours. Look at the schedule ${local.function_name}."
      namespace   = "AWS/Lambda"
      metric_name = "Invocations"
      dimensions  = { FunctionName = local.function_name }
      period      = 3600
      periods     = var.silent_after_hours
      at_least    = 1
      no_data     = "breaching"
    }
    undelivered = {
      description = "An event for the rotation of ${var.name} was given up after its retries, and lies in the queue ${local.prefix}-failed. An hourly one needs nothing, for the next does the same; an emergency has to be sent again."
      namespace   = "AWS/SQS"
      metric_name = "NumberOfMessagesSent" # not how many lie there: it would ring until somebody empties the queue
      dimensions  = { QueueName = "${local.prefix}-failed" }
      period      = 300
      periods     = 1
      at_least    = null
      no_data     = "notBreaching"
    }
  }
}

resource "aws_sns_topic" "alarms" {
  count = local.create_alarms && length(var.alarm_topic_arns) == 0 ? 1 : 0

  name              = "${local.prefix}-alarms"
  kms_master_key_id = local.kms_key_arn
  tags              = var.tags

  depends_on = [aws_iam_role.rotator, aws_secretsmanager_secret.token] # or it would be another's: see the queue of what failed
}

resource "aws_sns_topic_subscription" "email" {
  for_each = local.create_alarms ? var.alarm_emails : []

  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_log_metric_filter" "attention" {
  count = local.create_alarms ? 1 : 0

  name           = "${local.prefix}-attention"
  log_group_name = aws_cloudwatch_log_group.function[0].name
  pattern        = "{ $.item.state = \"attention\" }"

  metric_transformation {
    namespace     = "cmzon-secrets"
    name          = "attention-${var.name}"
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.create_alarms ? local.alarms : {}

  alarm_name          = "${local.prefix}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric_name
  dimensions          = each.value.dimensions
  statistic           = "Sum"
  period              = each.value.period
  evaluation_periods  = each.value.periods
  comparison_operator = each.value.at_least == null ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = each.value.at_least == null ? 0 : each.value.at_least
  treat_missing_data  = each.value.no_data
  alarm_actions       = local.alarm_topic_arns
  ok_actions          = local.alarm_topic_arns
  tags                = var.tags

  depends_on = [aws_iam_role.rotator, aws_secretsmanager_secret.token] # or it would be another's: see the queue of what failed
}

resource "aws_cloudwatch_dashboard" "rotation" {
  count = var.create_function && var.create_dashboard ? 1 : 0

  dashboard_name = local.prefix
  dashboard_body = jsonencode({
    widgets = [
      {
        type = "metric", x = 0, y = 0, width = 12, height = 6
        properties = {
          title  = "Runs and failures"
          region = local.region
          stat   = "Sum"
          period = 3600
          metrics = [
            ["AWS/Lambda", "Invocations", "FunctionName", local.function_name],
            [".", "Errors", ".", "."],
            [".", "Throttles", ".", "."],
          ]
        }
      },
      {
        type = "metric", x = 12, y = 0, width = 12, height = 6
        properties = {
          title   = "Time of a run (ms)"
          region  = local.region
          period  = 3600
          metrics = [for stat in ["p50", "p99", "Maximum"] : ["AWS/Lambda", "Duration", "FunctionName", local.function_name, { stat = stat }]]
        }
      },
      {
        type = "log", x = 0, y = 6, width = 24, height = 9
        properties = {
          title  = "What was done"
          region = local.region
          view   = "table"
          query  = "SOURCE '${local.log_group_name}' | filter ispresent(event) or ispresent(item.state) | fields @timestamp, event, token_id, item.account, item.state, item.reason | sort @timestamp desc | limit 50"
        }
      },
    ]
  })

  depends_on = [aws_iam_role.rotator, aws_secretsmanager_secret.token] # or it would be another's: see the queue of what failed
}
