# From where the vault and the function are reached, and what the function reaches. A function app is
# none of the "trusted services" that pass a vault's firewall: it comes by its subnet.

locals {
  allowed_ranges = [for address in var.allowed_cidrs : strcontains(address, "/") ? address : "${address}/32"]

  create_network      = var.create_function && var.subnet == null
  function_subnet_id  = var.subnet == null ? one(azurerm_subnet.function[*].id) : var.subnet.id
  function_subnet_ids = var.create_function ? [local.function_subnet_id] : []

  api_port = try(regex("^https://[^/:]+:([0-9]+)", var.base_url)[0], "443")
}

resource "azurerm_virtual_network" "this" {
  count = local.create_network ? 1 : 0

  name                = local.prefix
  resource_group_name = var.resource_group_name
  location            = var.location
  address_space       = [var.network_cidr]
  tags                = var.tags
}

resource "azurerm_subnet" "function" {
  count = local.create_network ? 1 : 0

  name                 = "function"
  resource_group_name  = var.resource_group_name
  virtual_network_name = azurerm_virtual_network.this[0].name
  address_prefixes     = [var.network_cidr]
  service_endpoints    = ["Microsoft.KeyVault", "Microsoft.Storage"]

  delegation {
    name = "function"

    service_delegation {
      name    = "Microsoft.Web/serverFarms"
      actions = ["Microsoft.Network/virtualNetworks/subnets/action"]
    }
  }
}

resource "azurerm_network_security_group" "function" {
  count = local.create_network ? 1 : 0

  name                = "${local.prefix}-function"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags

  security_rule {
    name                       = "https"
    description                = "To Key Vault, Storage, Entra ID, Azure Monitor and the CMzon API."
    priority                   = 100
    direction                  = "Outbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_address_prefix      = "*"
    source_port_range          = "*"
    destination_address_prefix = "Internet"
    destination_port_ranges    = distinct(["443", local.api_port])
  }

  security_rule {
    name                       = "nothing-else-out"
    priority                   = 200
    direction                  = "Outbound"
    access                     = "Deny"
    protocol                   = "*"
    source_address_prefix      = "*"
    source_port_range          = "*"
    destination_address_prefix = "*"
    destination_port_range     = "*"
  }

  security_rule {
    name                       = "nothing-in"
    priority                   = 200
    direction                  = "Inbound"
    access                     = "Deny"
    protocol                   = "*"
    source_address_prefix      = "*"
    source_port_range          = "*"
    destination_address_prefix = "*"
    destination_port_range     = "*"
  }
}

resource "azurerm_subnet_network_security_group_association" "function" {
  count = local.create_network ? 1 : 0

  subnet_id                 = azurerm_subnet.function[0].id
  network_security_group_id = azurerm_network_security_group.function[0].id
}

# ── one fixed address ───────────────────────────────────────────────────────────────────────────

resource "azurerm_public_ip" "egress" {
  count = var.egress ? 1 : 0

  name                = "${local.prefix}-egress"
  resource_group_name = var.resource_group_name
  location            = var.location
  allocation_method   = "Static"
  sku                 = "Standard"
  tags                = var.tags
}

resource "azurerm_nat_gateway" "egress" {
  count = var.egress ? 1 : 0

  name                = "${local.prefix}-egress"
  resource_group_name = var.resource_group_name
  location            = var.location
  sku_name            = "Standard"
  tags                = var.tags
}

resource "azurerm_nat_gateway_public_ip_association" "egress" {
  count = var.egress ? 1 : 0

  nat_gateway_id       = azurerm_nat_gateway.egress[0].id
  public_ip_address_id = azurerm_public_ip.egress[0].id
}

resource "azurerm_subnet_nat_gateway_association" "egress" {
  count = var.egress ? 1 : 0

  subnet_id      = azurerm_subnet.function[0].id
  nat_gateway_id = azurerm_nat_gateway.egress[0].id
}
