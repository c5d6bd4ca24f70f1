variable "record_id" {
  description = "Record that waits for this result: recordId in Service Catalog's message."
  type        = string
}

variable "provisioned_product_id" {
  description = "Value of the tag that all resources of the product carry: provisionedProductId in Service Catalog's message."
  type        = string
  default     = "pp-demo"
}

variable "program" {
  description = "Command line that starts main.py."
  type        = list(string)
  default     = ["../../../.venv/bin/python", "../../../main.py"]
}
