variable "record_id" {
  description = "Record that waits for this result: recordId in Service Catalog's message."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9_-]{1,100}$", var.record_id))
    error_message = "A record ID has 1 to 100 letters, digits, hyphens and underscores."
  }
}

variable "program" {
  description = "Command line that starts main.py."
  type        = list(string)
  default     = ["../../../.venv/bin/python", "../../../main.py"]

  validation {
    condition     = length(var.program) > 0
    error_message = "The program needs at least its own name."
  }
}
