"""Post-processing: psums of the banks to bytes of the output tensor."""
