"""The hot view: latest values, rates and fan-out of what was just committed. Never the only home of anything."""
