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
  description = "Record that waits for this result: recordId in Service Catalog's message. A new one is reported, one that has been is not reported again."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9_-]{1,100}$", var.record_id))
    error_message = "A record ID has 1 to 100 letters, digits, hyphens and underscores."
  }
}

# Not map(any): that turns all values into one type, or refuses them where it cannot.
variable "outputs" {
  description = "What Service Catalog shows of the product: a map or an object, from output names to values of any type. Not sent with terminate."
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
  description = "Tag by which Service Catalog finds the resources of the product: its value is provisionedProductId in Service Catalog's message. Sent with provision only."
  type = object({
    key   = optional(string, "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE")
    value = string
  })
  default = null

  validation {
    condition     = var.resource_identifier == null || can(regex("^[\\p{L}\\p{Z}\\p{N}_.:/=+@-]{1,128}$", var.resource_identifier.key))
    error_message = "A tag's key has 1 to 128 letters, digits, spaces and characters of _.:/=+-@."
  }

  validation {
    condition     = var.resource_identifier == null || can(regex("^[\\p{L}\\p{Z}\\p{N}_.:/=+@-]{1,256}$", var.resource_identifier.value))
    error_message = "A tag's value has 1 to 256 letters, digits, spaces and characters of _.:/=+-@."
  }
}

variable "workflow_token" {
  description = "Token that came with the record: token in Service Catalog's message. Better left out: then it comes from WORKFLOW_RESULT_TOKEN in the environment that terraform was started in."
  type        = string
  default     = null
  ephemeral   = true

  validation {
    condition     = var.workflow_token == null || can(regex("^[0-9A-Za-z+/=-]+$", var.workflow_token))
    error_message = "A workflow token has letters, digits, +, /, = and hyphens, and is not empty."
  }

  validation {
    condition     = try(length(var.workflow_token) <= 20000, true)
    error_message = "A workflow token has at most 20,000 characters."
  }
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
