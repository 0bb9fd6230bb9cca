"""What the versions of Aave share: arithmetic, price sources, logs as columns. No protocol by itself."""
