# What the rotator would refuse at its first run, each for one reason.

mock_provider "vault" {}

variables {
  name = "acme"
}

run "readers_are_slower" {
  command = plan

  variables {
    rotation = { grace = "6m", reader_ttl = "5m", request_deadline = "90s" }
  }

  expect_failures = [output.rotation]
}

run "it_is_given_up_within_its_grace" {
  command = plan

  variables {
    rotation = { grace = "2d", revoke_limit = "1d" }
  }

  expect_failures = [output.rotation]
}

run "it_expires_within_its_grace" {
  command = plan

  variables {
    rotation = { expires_in = "30d", renew_before = "1h" }
  }

  expect_failures = [output.rotation]
}

run "it_is_due_at_once" {
  command = plan

  variables {
    rotation = { expires_in = "2d" }
  }

  expect_failures = [output.rotation]
}
