output "subnet_ids" {
  description = "Subnets for the function."
  value       = [aws_subnet.private.id]
}

output "security_group_id" {
  description = "Security group for the function."
  value       = aws_security_group.function.id
}

output "ips" {
  description = "Addresses from which the function is seen."
  value       = [aws_eip.this.public_ip]
}
