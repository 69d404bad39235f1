# State in s3://demo/tfstate/, under a lock: ./apply.sh runs Terraform or OpenTofu
# with credentials that carry the token. An apply whose lock was lost cannot write
# its state over the next one's: StaleFencingToken.

terraform {
  backend "s3" {
    bucket = "demo"
    key    = "tfstate/terraform.tfstate"
  }
}

variable "release" {
  type    = string
  default = "1"
}

# Stands for what you really create; needs no provider.
resource "terraform_data" "release" {
  input = var.release
}

output "release" {
  value = terraform_data.release.output
}
