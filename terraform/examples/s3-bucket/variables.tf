variable "bucket_name" {
  description = "Name of the bucket, unique in all of AWS."
  type        = string
}
