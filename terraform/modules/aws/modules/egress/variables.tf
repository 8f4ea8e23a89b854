variable "name" {
  description = "What everything here is called."
  type        = string
}

variable "cidr" {
  description = "Range of the VPC, /26 or larger."
  type        = string
}

variable "availability_zone" {
  description = "Zone of the subnets. Default: AWS chooses."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything that can have some."
  type        = map(string)
  default     = {}
}
