# What these may contain is for main.py to say; here is only what has to hold to ask it.

variable "operation" {
  description = "What the engine does: provision, update or terminate. Service Catalog's message names it."
  type        = string
  default     = "provision"
  nullable    = false

  validation {
    condition     = contains(["provision", "update", "terminate"], var.operation)
    error_message = "The operation must be provision, update or terminate."
  }
}

variable "record_id" {
  description = "Record that waits for the result: recordId in Service Catalog's message."
  type        = string
  nullable    = false
}

# Not map(any): that turns all values into one type, or refuses them where it cannot.
variable "outputs" {
  description = "What Service Catalog shows of the product: a map or an object, from output names to values of any type. The names are checked, the values not even looked at: they may be unknown at plan."
  type        = any
  default     = {}
  nullable    = false

  validation {
    condition     = can(keys(var.outputs))
    error_message = "The outputs must be a map or an object, from output names to values."
  }

  validation {
    condition     = !issensitive(var.outputs)
    error_message = "The outputs as a whole are sensitive, so that not even their names can be told. Mark single values as sensitive instead."
  }
}

variable "output_descriptions" {
  description = "Descriptions of the outputs: a map from output names to texts. An output may go without."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.output_descriptions), try(keys(var.outputs), []))) == 0
    error_message = "There are descriptions of outputs that do not exist: ${join(", ", setsubtract(keys(var.output_descriptions), try(keys(var.outputs), [])))}."
  }
}

variable "resource_identifier" {
  description = "Tag by which Service Catalog finds the resources of the product: its value is provisionedProductId in Service Catalog's message. Checked with provision only."
  type = object({
    key   = optional(string, "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE")
    value = string
  })
  default = null
}

variable "program" {
  description = "Command line that starts main.py; where it has a relative path, one from the folder that terraform runs in. The default is what `pip install` of this project puts on PATH."
  type        = list(string)
  default     = ["workflow-result"]
  nullable    = false

  validation {
    condition     = length(var.program) > 0
    error_message = "The program needs at least its own name."
  }
}
