"""Code that was copied from the vendor's page: the class is imported, the rest stays as it was."""

import os

from cmzon_secrets.integrations.vendor_example import CMzonAPI

# A token, as on the page, or the place where it lives: then it is read just in time.
api = CMzonAPI(os.getenv("CMZON_TOKEN_URI") or os.environ["CMZON_API_TOKEN"])

if __name__ == "__main__":
    try:
        result = api.send_message("+1234567890", "Hello from CMzon!")
        print(f"Message sent: {result}")
    except ValueError as e:
        print(f"Error: {e}")
