# ./main.py run --chdir terraform/examples/s3-bucket <terraform/examples/s3-bucket/message.json
#
# A product as Service Catalog's users order it. It knows nothing of Service Catalog: `run` gives
# it the message's parameters as variables and the tags, the tracer tag among them, as the AWS
# provider's default tags, and reports its outputs.

resource "aws_s3_bucket" "this" {
  bucket = var.bucket_name
}
