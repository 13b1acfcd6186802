"""The HTTP door: the contract as a table of routes, one way through for all of them.

Promises: every error is a problem document; nothing unknown or doubled in a body is let pass;
an answer with an effect is sent after its COMMIT. Holds no rule about money.
"""
