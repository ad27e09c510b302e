package main

// terminalPath is the console's input.
const terminalPath = "CONIN$"
