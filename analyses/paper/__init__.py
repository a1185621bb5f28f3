"""The paper's figures, tables and statements, measured again."""
