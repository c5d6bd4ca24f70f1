"""What drives Terraform for an operation message of Service Catalog's. The inner ring, which checks
and reports results, never imports from here."""
