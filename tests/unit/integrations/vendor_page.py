"""The Python example of the vendor's page as it stands there: what ours is held against."""
# ruff: noqa
# fmt: off

import requests
import os
from typing import Dict, Any

class CMzonAPI:
    def __init__(self, api_token: str):
        self.api_token = api_token
        self.base_url = 'https://api.cmzon.com/v1'
        self.headers = {
            'Authorization': f'Bearer {api_token}',
            'Content-Type': 'application/json'
        }

    def send_message(self, to: str, message: str) -> Dict[str, Any]:
        """Send a text message via WhatsApp Business API"""
        url = f'{self.base_url}/messages'
        data = {
            'to': to,
            'type': 'text',
            'text': {
                'body': message
            }
        }
        try:
            response = requests.post(url, json=data, headers=self.headers)
            response.raise_for_status()
            return response.json()
        except requests.exceptions.HTTPError as e:
            if e.response.status_code == 401:
                raise ValueError("Invalid API token")
            elif e.response.status_code == 429:
                raise ValueError("Rate limit exceeded")
            else:
                raise e
