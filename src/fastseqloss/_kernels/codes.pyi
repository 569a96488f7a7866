INPUTS: dict[int, str]
STORED: dict[int, str]
