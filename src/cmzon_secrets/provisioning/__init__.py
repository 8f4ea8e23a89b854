"""What `cmzon-secrets init` writes, the Terraform modules and examples it takes that from, and the zip
for AWS Lambda. Nothing here is needed to read or rotate a token.
"""
